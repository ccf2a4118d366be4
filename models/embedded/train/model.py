"""The decoder in plain PyTorch: the Qwen2 architecture with tied embeddings, written for training on a CPU in bf16."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    vocabulary: int = 8192
    hidden: int = 256
    feed_forward: int = 1280
    layers: int = 7
    q_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6

    def as_dict(self) -> dict:
        return asdict(self)


class Norm(nn.Module):
    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon) * self.weight).to(x.dtype)


def rotate(x, cos, sin):
    """RoPE, half-split layout. `x: [rows, heads, tokens, head_dim]`, `cos, sin: [tokens, head_dim / 2]`."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


class Attention(torch.autograd.Function):
    """Causal attention with whole score matrices: on this kind of CPU the backward pass of the fused kernel is the slowest part of a step."""

    masks: dict = {}

    @staticmethod
    def forward(context, q, k, v):
        # q, k, v: [rows * heads, tokens, head_dim]
        tokens = q.shape[1]
        if tokens not in Attention.masks:
            Attention.masks[tokens] = torch.full((tokens, tokens), -1e4, dtype=q.dtype).triu(1)
        q = q * q.shape[-1] ** -0.5
        weights = torch.softmax(torch.baddbmm(Attention.masks[tokens], q, k.transpose(1, 2)), -1)
        mixed = weights @ v
        context.save_for_backward(q, k, v, weights, mixed)
        return mixed

    @staticmethod
    def backward(context, upstream):
        q, k, v, weights, mixed = context.saved_tensors
        grad_v = weights.transpose(1, 2) @ upstream
        inner = (upstream * mixed).sum(-1, keepdim=True)
        grad_scores = (upstream @ v.transpose(1, 2)).sub_(inner).mul_(weights)
        grad_q = (grad_scores @ k).mul_(q.shape[-1] ** -0.5)
        return grad_q, grad_scores.transpose(1, 2) @ q, grad_v


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        q_width, kv_width = shape.q_heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.attn_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.attn_q = nn.Linear(shape.hidden, q_width)
        self.attn_k = nn.Linear(shape.hidden, kv_width)
        self.attn_v = nn.Linear(shape.hidden, kv_width)
        self.attn_output = nn.Linear(q_width, shape.hidden, bias=False)
        self.ffn_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.ffn_gate = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x, cos, sin):
        rows, tokens, _ = x.shape
        normed = self.attn_norm(x)

        def heads(y):  # [rows, tokens, heads * head_dim] -> [rows, heads, tokens, head_dim]
            return y.view(rows, tokens, -1, self.shape.head_dim).transpose(1, 2)

        q = rotate(heads(self.attn_q(normed)), cos, sin)
        k = rotate(heads(self.attn_k(normed)), cos, sin)
        v = heads(self.attn_v(normed))
        group = self.shape.q_heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        if q.requires_grad and not q.is_cuda:
            mixed = Attention.apply(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)).view(q.shape)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(rows, tokens, -1))
        normed = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed))


class Decoder(nn.Module):
    """`forward(ids: [rows, tokens]) -> [rows, tokens, hidden]`, after the last norm, in the dtype of the weights; the head is the embedding."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.hidden)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.hidden, shape.norm_epsilon)
        self.initialise()

    def initialise(self) -> None:
        depth_scale = (2 * self.shape.layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                deviation = 0.02 if "embd" in name else parameter.shape[1] ** -0.5
                if name.endswith(("attn_output.weight", "ffn_down.weight")):
                    deviation *= depth_scale
                nn.init.normal_(parameter, std=deviation)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def plant_copying(self) -> None:
        """Lays the wires of an induction circuit into the first two blocks, which a small model otherwise finds late: the biases of queries and keys
        make two heads of the first look one token back and write what they see into the directions that embeddings use least; two heads of the
        second look for the places behind an earlier copy of the current token and pass on what stood there. Everything else of the two blocks
        writes nothing at first, and training is free to change all of it. The embeddings must be there already."""
        shape = self.shape
        half, group, dim = shape.head_dim // 2, shape.q_heads // shape.kv_heads, shape.head_dim
        first, second = self.blk[0], self.blk[1]
        for block in (first, second):
            block.attn_output.weight.zero_()
            block.ffn_down.weight.zero_()
        embeddings = self.token_embd.weight.detach()
        normed = embeddings * torch.rsqrt(embeddings.square().mean(-1, keepdim=True) + shape.norm_epsilon)
        mean, size = normed.mean(0), embeddings.square().mean().sqrt()
        _, spread, directions = torch.linalg.svd(normed - mean, full_matrices=False)
        spread = spread / len(normed) ** 0.5
        frequency = shape.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
        sharp = 6                                           # pairs of highest frequency: they tell neighbours apart
        slow = torch.arange(20, half)                       # pairs that hardly turn: they carry the content
        slow = torch.cat([slow, slow + half])
        count = len(slow)
        for kv in range(shape.kv_heads):
            begin, query = kv * dim, kv * group * dim       # of the keys and values, and of the first query head of the group
            for linear, at in ((first.attn_q, query), (first.attn_k, begin), (second.attn_q, query), (second.attn_k, begin)):
                linear.weight[at:at + dim] *= 0.1
            first.attn_q.bias[query:query + sharp] = 6.5 * frequency[:sharp].cos()
            first.attn_q.bias[query + half:query + half + sharp] = -6.5 * frequency[:sharp].sin()
            first.attn_k.bias[begin:begin + sharp] = 6.5
            chosen = torch.arange(kv * count, (kv + 1) * count)
            read = directions[chosen] / spread[chosen, None]        # unit variance in each direction
            unused = directions[-1 - chosen]
            gain = 2 * spread[-1 - chosen].mean() * size
            first.attn_v.weight[begin:begin + dim] = 0
            first.attn_v.weight[begin:begin + count] = read
            first.attn_v.bias[begin:begin + count] = -read @ mean
            first.attn_output.weight[:, query:query + count] = gain * unused.T
            second.attn_q.weight[query + slow] += 2.0 * read
            second.attn_q.bias[query + slow] = -2.0 * read @ mean
            second.attn_k.weight[begin + slow] += 2.0 * unused * size / gain
            passed = nn.init.orthogonal_(torch.empty(dim, shape.hidden))
            second.attn_v.weight[begin:begin + dim] = passed
            second.attn_output.weight[:, query:query + dim] = 0.3 * size * passed.T

    def angles(self, tokens: int, dtype):
        half = self.shape.head_dim // 2
        device = self.token_embd.weight.device
        frequency = self.shape.rope_theta ** (-torch.arange(half, dtype=torch.float32, device=device) / half)
        angle = torch.arange(tokens, dtype=torch.float32, device=device)[:, None] * frequency
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(self, ids):
        x = self.token_embd(ids)
        cos, sin = self.angles(ids.shape[1], x.dtype)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)


def chunk_loss(logits, targets, weights):
    """Cross-entropy of each position of a chunk, and the weighted gradient for the logits; compiled into one kernel where that is possible."""
    wide = logits.float()
    top = wide.amax(-1, keepdim=True)
    exponential = (wide - top).exp()
    total = exponential.sum(-1, keepdim=True)
    loss = (top + total.log()).squeeze(1) - wide.gather(1, targets[:, None]).squeeze(1)
    return loss, (exponential * (weights[:, None] / total)).to(logits.dtype)


class HeadLoss(torch.autograd.Function):
    """Cross-entropy through the tied head, weighted, in chunks: the logits of a whole batch never exist, and the gradients are made on the way.

    Returns the weighted sum; `backward` may only be called on it, as the last thing computed. The losses of the positions are left in `last`."""

    CHUNK = 512
    kernel = staticmethod(chunk_loss)
    last = None

    @staticmethod
    def forward(context, hidden, weight, targets, weights):
        # hidden: [positions, hidden], weight: [vocabulary, hidden], targets, weights: [positions]
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        losses = torch.empty_like(weights)
        for begin in range(0, hidden.shape[0], HeadLoss.CHUNK):
            chunk = slice(begin, begin + HeadLoss.CHUNK)
            h, t, w = hidden[chunk], targets[chunk], weights[chunk]
            losses[chunk], grad = HeadLoss.kernel(h @ weight.T, t, w)
            grad[torch.arange(len(t), device=t.device), t] -= w.to(grad.dtype)
            grad_hidden[chunk] = grad @ weight
            grad_weight += grad.T @ h
        context.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        HeadLoss.last = losses
        return (losses * weights).sum()

    @staticmethod
    def backward(context, upstream):
        grad_hidden, grad_weight = context.saved_tensors
        return grad_hidden, grad_weight, None, None
