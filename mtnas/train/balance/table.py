"""The balancing methods, by name. A new one is a file, a row here, and passes `test_balance_contract.py`."""

from __future__ import annotations

BALANCES: dict[str, str] = {
    "fixed": "mtnas.train.balance.fixed:Fixed",
    "uncertainty": "mtnas.train.balance.uncertainty:Uncertainty",
    "dwa": "mtnas.train.balance.dwa:DynamicAverage",
    "rlw": "mtnas.train.balance.rlw:RandomWeights",
    "famo": "mtnas.train.balance.famo:Famo",
    "bandit": "mtnas.train.balance.bandit:Bandit",
    "pcgrad": "mtnas.train.balance.pcgrad:PcGrad",
    "cagrad": "mtnas.train.balance.cagrad:CaGrad",
    "nash": "mtnas.train.balance.nash:NashMtl",
    "aligned": "mtnas.train.balance.aligned:AlignedMtl",
    "upgrad": "mtnas.train.balance.upgrad:UpGrad",
    "mgda": "mtnas.train.balance.mgda:Mgda",
    "imtl_g": "mtnas.train.balance.imtl_g:ImtlG",
    "svd": "mtnas.train.balance.svd:SvdWeights",
}

#: rows that need packages which not everybody has, all in the extra `balance`
EXTRAS: dict[str, tuple[str, ...]] = {
    "pcgrad": ("torchjd",),
    "cagrad": ("torchjd", "cvxpy", "clarabel"),
    "aligned": ("torchjd",),
    "upgrad": ("torchjd",),
    "imtl_g": ("torchjd",),
}

#: rows that take one backward pass for each task
PER_TASK: tuple[str, ...] = ("pcgrad", "cagrad", "nash", "aligned", "upgrad", "mgda", "imtl_g", "svd")

#: rows that run the largest network once more after the step
LOOKING_BACK: tuple[str, ...] = ("famo",)

#: rows that weigh by the losses of the whole step, which are found first where a step is taken in parts
WEIGHING_LOSSES: tuple[str, ...] = ("famo", "bandit")
