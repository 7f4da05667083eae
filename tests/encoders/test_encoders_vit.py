"""The vision transformer: its attention against torch's own, its residuals, and where its tokens stand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mtnas.base.errors import JobError
from mtnas.encoders.attention import MultiHead, MultiQuery
from mtnas.encoders.make import make_encoder
from mtnas.encoders.vit import Mlp, ViT

CHANNELS, HEADS, HEAD_CHANNELS, TOKENS = 24, 3, 8, 10


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(2, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(seed))


def test_multi_head_is_that_of_torch() -> None:
    ours, x_BNC = MultiHead(CHANNELS, HEADS, HEAD_CHANNELS).eval(), tokens()
    theirs = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True).eval()
    parts = (ours.query, ours.key, ours.value)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": torch.cat([part.bias for part in parts]),
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    normed_BNC = ours.norm(x_BNC)
    expected = x_BNC + theirs(normed_BNC, normed_BNC, normed_BNC, need_weights=False)[0]
    torch.testing.assert_close(ours(x_BNC), expected, rtol=1e-5, atol=1e-5)


def test_multi_query_is_multi_head_with_one_key_and_value_for_all() -> None:
    one, many = MultiQuery(CHANNELS, HEADS, HEAD_CHANNELS), MultiHead(CHANNELS, HEADS, HEAD_CHANNELS)
    state = one.state_dict()
    for name in ("key", "value"):
        state[f"{name}.weight"] = state[f"{name}.weight"].repeat(HEADS, 1)
        state[f"{name}.bias"] = state[f"{name}.bias"].repeat(HEADS)
    many.load_state_dict(state)
    torch.testing.assert_close(one(tokens()), many(tokens()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [MultiHead, MultiQuery])
def test_attention_sees_all_tokens_and_only_its_own_image(kind: type[nn.Module]) -> None:
    layer, x_BNC = kind(CHANNELS, HEADS, HEAD_CHANNELS), tokens()
    changed = x_BNC.clone()
    changed[0, -1] = changed[0, 0].flip(0)
    difference_BN = (layer(changed) - layer(x_BNC)).abs().amax(2)
    assert (difference_BN[0] > 1e-6).all() and (difference_BN[1] == 0).all()


def test_blocks_are_residuals() -> None:
    """With the last layer at zero, a block returns its input."""
    for block, last in (
        (MultiHead(CHANNELS, HEADS, HEAD_CHANNELS), "output"),
        (MultiQuery(CHANNELS, HEADS, HEAD_CHANNELS), "output"),
        (Mlp(CHANNELS, 48), "reduce"),
    ):
        for parameter in block.get_submodule(last).parameters():
            nn.init.zeros_(parameter)
        assert torch.equal(block(tokens()), tokens())


def test_tokens_know_where_they_are() -> None:
    """A picture shifted by one token's stride does not give shifted tokens: the border is felt."""
    torch.manual_seed(0)
    encoder = ViT(width=16, depth=(1, 1, 1)).eval()
    with torch.no_grad():
        same_BCHW = encoder(torch.full((1, 3, 96, 96), 0.5))[-1]
    assert float((same_BCHW[..., 0, 0] - same_BCHW[..., 3, 3]).abs().max()) > 1e-3


def test_fine_levels_are_the_stem_and_the_others_tokens() -> None:
    encoder = ViT(width=16, depth=(1, 1, 2, 1))
    assert [(level.channels, level.stride) for level in encoder.levels] == [(16, 4), (32, 8), (64, 16), (64, 16)]
    assert [len(stage) for stage in encoder.stages] == [2, 2, 4, 2]
    assert [level.stride for level in ViT(width=16, depth=(1, 1), output_stride=4).levels] == [4, 4]


def test_parameters_of_a_block() -> None:
    """Attention: 4 linear layers and a norm; multi-query has one head's keys and values. MLP: 2 layers and a norm."""
    c, w, d = CHANNELS, HEADS * HEAD_CHANNELS, HEAD_CHANNELS

    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(MultiHead(c, HEADS, d)) == 4 * c * w + 3 * w + c + 2 * c
    assert count(MultiQuery(c, HEADS, d)) == 2 * c * w + 2 * c * d + w + 2 * d + c + 2 * c
    assert count(Mlp(c, 48)) == 2 * c * 48 + 48 + c + 2 * c


def test_a_training_step_in_bfloat16_with_channels_last() -> None:
    torch.manual_seed(0)
    encoder = ViT(width=16, depth=(1, 1, 1)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.01)
    image_BCHW = torch.randn(4, 3, 64, 64).to(memory_format=torch.channels_last)
    losses = []
    for _ in range(4):
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(x.float().sub(1.0).square().mean() for x in encoder(image_BCHW))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_unknown_attention_suggests_the_nearest() -> None:
    with pytest.raises(JobError, match="did you mean 'multi_query'"):
        make_encoder("vit", width=16, depth=(1, 1, 1), options={"attention": "multiquery"})
