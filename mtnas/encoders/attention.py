"""Attention over tokens with a residual around it: multi-head, or multi-query.

Sources: Vaswani et al., "Attention Is All You Need", section 3.2; Shazeer, "Fast Transformer Decoding: One Write-Head
is All You Need", section 3 (all heads share one key and one value). Pre-norm, as in Dosovitskiy et al., "An Image is
Worth 16x16 Words", equation 2.

Queries, keys and values are layers of their own and the number of heads is left open in every reshape, so that a head
(its rows there, its columns in the output's weight) is a channel group's unit. The width of a head never changes.
Shape letters: B = batch, N = tokens, C = channels, A = heads, D = channels of a head.
"""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.Module):
    """Layers of both kinds, which differ in how many heads have keys and values of their own.

    Args:
        channels: of a token.
        heads: at full width.
        head_channels: of one head.
    """

    shared_keys: bool

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        wide = heads * head_channels
        narrow = head_channels if self.shared_keys else wide
        self.head_channels = head_channels
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, wide)
        self.key = nn.Linear(channels, narrow)
        self.value = nn.Linear(channels, narrow)
        self.output = nn.Linear(wide, channels)


class MultiHead(Attention):
    """Every head has its own keys and values: `x + output(softmax(q k' / sqrt(D)) v)` of the normalised tokens."""

    shared_keys = False

    def forward(self, x_BNC: Tensor) -> Tensor:
        normed_BNC = self.norm(x_BNC)
        query_BAND = self._heads(self.query(normed_BNC)) * self.head_channels**-0.5
        key_BAND, value_BAND = self._heads(self.key(normed_BNC)), self._heads(self.value(normed_BNC))
        weights_BANN = (query_BAND @ key_BAND.transpose(2, 3)).softmax(-1)
        mixed_BNAD = (weights_BANN @ value_BAND).transpose(1, 2)
        return x_BNC + self.output(mixed_BNAD.flatten(2))

    def _heads(self, x_BNC: Tensor) -> Tensor:
        return x_BNC.unflatten(2, (-1, self.head_channels)).transpose(1, 2)


class MultiQuery(Attention):
    """All heads share one key and one value, so a token of every head is one more query: no transposition is needed."""

    shared_keys = True

    def forward(self, x_BNC: Tensor) -> Tensor:
        tokens = x_BNC.shape[1]
        normed_BNC = self.norm(x_BNC)
        # N and A become one axis of queries.
        query_BQD = self.query(normed_BNC).unflatten(2, (-1, self.head_channels)).flatten(1, 2)
        weights_BQN = ((query_BQD * self.head_channels**-0.5) @ self.key(normed_BNC).transpose(1, 2)).softmax(-1)
        mixed_BQD = weights_BQN @ self.value(normed_BNC)
        return x_BNC + self.output(mixed_BQD.unflatten(1, (tokens, -1)).flatten(2))
