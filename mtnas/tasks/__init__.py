"""One file per task: loss, distillation loss, exact streaming meter, activation."""
