"""What a job may say about an encoder, checked by its tables. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtnas.base.errors import JobError
from mtnas.base.tables import check_name
from mtnas.encoders.table import (
    ATTENTIONS,
    CHOICE,
    ENCODERS,
    KERNELS,
    LEARNED,
    MOST_STAGES,
    OPTIONS,
    PER_TASK,
    ROUTINGS,
    SIZES,
    TASK,
    TOKEN,
    UIB_OPERATORS,
)


def sized(name: str, width: int, blocks: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Width and blocks of each stage, with the encoder's own where they are 0 and empty; raises `JobError`."""
    check_name(name, ENCODERS, "encoder", "model.encoder")
    own_width, own_blocks = SIZES[name]
    blocks = tuple(blocks) or own_blocks
    if any(count < 1 for count in blocks):
        raise JobError(
            "at least one block in each stage",
            received=str(blocks),
            where="model.blocks",
            cure=f"write {list(own_blocks)}",
        )
    if len(blocks) > MOST_STAGES.get(name, len(blocks)):
        raise JobError(
            f"at most {MOST_STAGES[name]} stages in {name}",
            received=str(blocks),
            where="model.blocks",
            cure=f"write {list(own_blocks)}",
        )
    return width or own_width, blocks


def chosen_options(name: str, given: Mapping[str, int | str]) -> dict[str, int | str]:
    """All settings that an encoder reads beside its size; what is 0 or empty is its own. Raises `JobError`.

    Args:
        name: a row of `ENCODERS`.
        given: settings of the job, those of other encoders included.
    """
    own = OPTIONS.get(name, {})
    for key, value in given.items():
        if value and key not in own:
            users = [encoder for encoder, options in OPTIONS.items() if key in options]
            raise JobError(
                f"an encoder that reads model.{key}",
                received=name,
                where=f"model.{key}",
                cure=f"leave it out, or choose {' or '.join(users)}",
            )
        if isinstance(value, int) and value < 0:
            raise JobError("zero or more", received=str(value), where=f"model.{key}", cure="0 = the encoder's own")
    if given.get("operator"):
        check_name(str(given["operator"]), {**UIB_OPERATORS, CHOICE: ()}, "operator", "model.operator")
    if given.get("attention"):
        check_name(str(given["attention"]), {**ATTENTIONS, CHOICE: ""}, "attention", "model.attention")
        if given["attention"] == CHOICE and name in PER_TASK:
            raise JobError(
                f"one kind of attention: blocks of {name} with experts run once for each task",
                received=CHOICE,
                where="model.attention",
                cure=f"choose {' or '.join(ATTENTIONS)}, or encoder: vit",
            )
    if given.get("kernel") and given["kernel"] not in (*KERNELS, CHOICE):
        sizes = ", ".join(map(str, KERNELS))
        raise JobError(
            f"one of {sizes}, or {CHOICE}",
            received=repr(given["kernel"]),
            where="model.kernel",
            cure=f"write a number, or {CHOICE} to let every block have its own",
        )
    chosen = {key: given.get(key) or value for key, value in own.items()}
    if "routing" in chosen:
        _check_routing(chosen)
    return chosen


def inseparable(routing: object) -> str:
    """Why no file for some of the tasks is made; empty where it is."""
    if routing != TOKEN:
        return ""
    return "experts chosen by tokens: any token may ask for any of them, so that one task's file would hold them all"


def _check_routing(chosen: Mapping[str, int | str]) -> None:
    """Who chooses is known, and his experts can be dealt out."""
    routing, experts, top_k = str(chosen["routing"]), int(chosen["experts"]), int(chosen["top_k"])
    check_name(routing, ROUTINGS, "routing", "model.routing")
    if routing == LEARNED:
        raise JobError(
            "experts that do not change: a job draws the elastic graph before it trains",
            received=routing,
            where="model.routing",
            cure="choose task; or train TaskRoutedViT(routing='learned') in Python and give it by model.factory",
        )
    if experts and (experts < top_k or (routing == TASK and experts % top_k)):
        multiple = "a multiple of" if routing == TASK else "at least"
        raise JobError(
            f"{multiple} model.top_k ({top_k})",
            received=str(experts),
            where="model.experts",
            cure="leave it out for as many as the tasks need",
        )
