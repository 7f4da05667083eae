"""The search strategies: name -> where its class lies. One row, one file; the contract test examines every row."""

STRATEGIES: dict[str, str] = {
    "nsga2": "mtnas.search.strategies.nsga2:Nsga2",
    "random": "mtnas.search.strategies.random:UniformRandom",
    "random_spread": "mtnas.search.strategies.random:SpreadRandom",
    "optuna_tpe": "mtnas.search.strategies.optuna_tpe:OptunaTpe",
    "optuna_nsga2": "mtnas.search.strategies.optuna_nsga2:OptunaNsga2",
    "nni_tpe": "mtnas.search.strategies.nni_tpe:NniTpe",
}

EXTRAS: dict[str, str] = {"nni_tpe": "nni"}
