"""The pruning criteria by name: (`ImportanceInput`) -> group name -> importance_U."""

CRITERIA: dict[str, str] = {
    "taylor": "mtnas.prune.criteria.taylor:taylor",
    "l1": "mtnas.prune.criteria.magnitude:l1",
    "random": "mtnas.prune.criteria.random_order:random_order",
}
