"""One file per data set; every set has four splits: train, calibrate, select, report."""
