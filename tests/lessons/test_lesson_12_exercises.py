"""Right answers to lesson 12's exercises that are not the reference, and who is told what."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lessons_src.exercises.tasks import ask, judge
from lessons_src.latent import Autoencoder, draw_latents, gaussian_kl
from lessons_src.lessons.lesson_12 import exercises
from lessons_src.networks import silence
from lessons_src.text_to_image import DiT, DiTBlock

TASKS = {task.name: task for task in exercises.TASKS}


def kl_by_torch(mean, log_variance):
    own = Normal(mean, (log_variance / 2).exp())
    return kl_divergence(own, Normal(torch.zeros_like(mean), torch.ones_like(mean))).reshape(len(mean), -1).sum(-1)


def kl_by_the_library(mean, log_variance):
    return torch.stack([gaussian_kl(m, s).sum() for m, s in zip(mean, log_variance, strict=True)])


def scale_by_drawing_every_quantile(mean, log_variance, z, drawn):
    """The spread of a fine grid of quantiles of every Gaussian, which stands for drawing."""
    at = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)
    at = at / at.square().mean().sqrt()
    rows = mean.movedim(1, 0).flatten(1)[..., None] + (log_variance / 2).exp().movedim(1, 0).flatten(1)[..., None] * at
    centre, std = (f(rows.flatten(1)).view(-1, 1, 1) for f in (lambda r: r.mean(1), lambda r: r.std(1, correction=0)))
    return [(z - centre) / std, centre + std * drawn, std.square().log().squeeze()]


def scale_channel_by_channel(mean, log_variance, z, drawn):
    into, back, off = torch.empty_like(z), torch.empty_like(drawn), []
    for c in range(z.shape[1]):
        m = mean[:, c].mean()
        second = (mean[:, c] ** 2 + log_variance[:, c].exp()).mean()
        k = (second - m**2).sqrt()
        into[:, c], back[:, c] = (z[:, c] - m) / k, drawn[:, c] * k + m
        off.append(2 * math.log(k))
    return into, back, torch.tensor(off, dtype=torch.float64)


def attend_by_torch(q, k, v, mask, heads):
    parts = (part.view(*part.shape[:2], heads, -1).permute(0, 2, 1, 3) for part in (q, k, v))
    return F.scaled_dot_product_attention(*parts, mask[:, None, None]).permute(0, 2, 1, 3).reshape(q.shape)


def attend_one_by_one(q, k, v, mask, heads):
    out = torch.zeros_like(q)
    d = q.shape[2] // heads
    for b in range(len(q)):
        for h in range(heads):
            own = slice(h * d, (h + 1) * d)
            keys, values = k[b, mask[b], own], v[b, mask[b], own]
            share = torch.exp(keys @ q[b, :, own].T / math.sqrt(d))
            out[b, :, own] = ((share / share.sum(0)).T) @ values
    return out


def branch_by_the_norm_of_torch(x, condition, weight, bias, layer):
    d = x.shape[2]
    scale, shift, gate = (
        condition @ weight[i * d : (i + 1) * d].T + bias[i * d : (i + 1) * d] for i in range(3)
    )  # (B, d) each
    norm = nn.LayerNorm(d, elementwise_affine=False, dtype=x.dtype)
    return torch.stack([
        one + gate[i] * ((norm(one) * (1 + scale[i]) + shift[i]) @ layer) for i, one in enumerate(x)
    ])  # fmt: skip


def branch_by_the_library(x, condition, weight, bias, layer):
    """The attention branch of `DiTBlock` with attention replaced by the layer, and nothing else switched on."""
    d = x.shape[2]
    block = DiTBlock(d, 3, 1).double()
    block.modulate = nn.Linear(condition.shape[1], 6 * d, dtype=x.dtype)
    silence(block.modulate)
    block.modulate.weight.data[: 3 * d], block.modulate.bias.data[: 3 * d] = weight, bias
    block.attention = nn.Linear(d, d, bias=False, dtype=x.dtype)
    block.attention.weight.data = layer.T
    words = torch.zeros(len(x), 2, 3, dtype=x.dtype)
    with torch.no_grad():
        return block(x, condition, words, torch.ones(len(x), 2, dtype=torch.bool))


def picture_by_shuffling(tokens, patch, columns):
    rows = tokens.shape[1] // columns
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (rows, columns)), patch)


def picture_by_folding(tokens, patch, columns):
    size = (tokens.shape[1] // columns * patch, columns * patch)
    return F.fold(tokens.transpose(1, 2), size, patch, stride=patch)


def bill_by_counting(side, patch, width, words, text):
    """What torch counts in the course's own block, its words' attention made plain."""
    tokens = (side // patch) ** 2
    block = DiTBlock(width, text, 8)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        block(
            torch.zeros(1, tokens, width),
            torch.zeros(1, width),
            torch.zeros(1, words, text),
            torch.ones(1, words, dtype=torch.bool),
        )
    return tokens, counter.get_total_flops()


def bill_by_layers(side, patch, width, words, text):
    n = side * side // patch**2
    layers = [(n, width, width)] * 6 + [(n, width, 4 * width), (n, 4 * width, width), (1, width, 6 * width)]
    layers += [(words, text, width)] * 2
    products = [(n, width, n)] * 2 + [(n, width, words)] * 2
    return [n, sum(2 * a * b * c for a, b, c in layers + products)]


def guidance_row_by_row(x, tokens, drop, table, w):
    null = [exercises.NULL] + [0] * (tokens.shape[1] - 1)
    shown = torch.tensor([null if gone else row for row, gone in zip(tokens.tolist(), drop.tolist(), strict=True)])
    means = torch.stack([table[row[row > 0]].mean(0) for row in tokens])
    return shown, x - ((1 - w) * table[1] + w * means)


def guidance_in_one_call(x, tokens, drop, table, w):
    null = F.one_hot(torch.zeros(len(tokens), dtype=torch.int64), tokens.shape[1])
    both = exercises.predict_noise(torch.cat([x, x]), torch.cat([tokens, null]), table)
    eps_c, eps_u = both.chunk(2)
    return [tokens * ~drop[:, None] + null * drop[:, None], torch.lerp(eps_u, eps_c, w)]


def leakage_by_bincount(asked, read, hues):
    sure = read != -2
    table = (asked[sure] * hues + read[sure]).bincount(minlength=hues**2).view(hues, hues).double()
    wrong = table.sum() - table.trace()
    return table / table.sum(1)[:, None], ((read == asked.flip(1)).sum() / wrong).item()


def leakage_by_lists(asked, read, hues):
    rows, wrong, stolen = [[0] * hues for _ in range(hues)], 0, 0
    for (a, b), (c, d) in zip(asked.tolist(), read.tolist(), strict=True):
        for own, other, got in ((a, b, c), (b, a, d)):
            if got >= 0:
                rows[own][got] += 1
                wrong += got != own
                stolen += got == other
    return torch.tensor([[n / sum(row) for n in row] for row in rows], dtype=torch.float64), stolen / wrong


RIGHT = {
    "encoder_kl": (kl_by_torch, kl_by_the_library),
    "latent_scale": (scale_by_drawing_every_quantile, scale_channel_by_channel),
    "attend": (attend_by_torch, attend_one_by_one),
    "adaln_branch": (branch_by_the_norm_of_torch, branch_by_the_library),
    "picture_of_patches": (picture_by_shuffling, picture_by_folding),
    "block_bill": (bill_by_counting, bill_by_layers),
    "caption_guidance": (guidance_row_by_row, guidance_in_one_call),
    "leakage": (leakage_by_bincount, leakage_by_lists),
}
CLAIMS = {"0.00001": lambda: nn.LayerNorm(4).eps}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def said(name, answer, seed):
    """What a learner with this answer reads, case by case; nothing where it is right."""
    return [result.says for result in judge(TASKS[name], lambda a: ask(answer, a), seeded(seed)).results]


def test_what_leads_astray_in_lesson_12_is_named():
    """The mistakes that the field makes: each has its sentence in some task; and every task names five or more."""
    sentences = [mistake.says for task in TASKS.values() for mistake in task.mistakes]
    for words in (
        "Softmax runs over the wrong axis",
        "1/sqrt(d) is missing",
        "scale is applied twice",
        "applied on decode only",
        "null caption is not dropped",
        "patches are in the wrong order",
    ):
        assert sum(words in says for says in sentences) == 1, words
    assert all(len(task.mistakes) >= 8 for task in TASKS.values())


def test_an_encoder_that_says_nothing_costs_nothing():
    """The answer to the first prediction."""
    assert exercises.encoder_kl(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]


def test_the_library_stores_this_scale():
    mean, log_variance, z, drawn = exercises.raw_latents(seeded(), 40, 4, 8)
    codec = Autoencoder()
    codec.moments = lambda rows: (rows[:, :4].float(), rows[:, 4:].float())
    codec.standardise(torch.cat([mean, log_variance], 1))
    into, back, off = exercises.latent_scale(mean, log_variance, z, drawn)
    torch.testing.assert_close((z - codec.mean) / codec.std, into, atol=1e-3, rtol=1e-3, check_dtype=False)
    torch.testing.assert_close(drawn * codec.std + codec.mean, back, atol=1e-2, rtol=1e-3, check_dtype=False)
    torch.testing.assert_close(2 * codec.std.log().flatten().double(), off, atol=1e-3, rtol=0)
    many = draw_latents(mean.repeat(200, 1, 1, 1), log_variance.repeat(200, 1, 1, 1), seeded())
    torch.testing.assert_close(2 * many.std((0, 2, 3)).log(), off, atol=0.01, rtol=0)


def test_products_of_random_vectors_have_the_spread_8_and_softmax_takes_one():
    """The answer to the third prediction."""
    q, k = torch.randn(2, 20_000, 64, generator=seeded(), dtype=torch.float64)
    assert (q * k).sum(1).std().item() == pytest.approx(8, rel=0.02)
    scores = q[:2000, None] @ torch.randn(2000, 64, 10, generator=seeded(1), dtype=torch.float64)
    top = scores.flatten(1).topk(2).values
    assert (top[:, 0] - top[:, 1]).median() > 3
    assert scores.softmax(-1).amax(-1).median() > 0.9
    assert (scores / 8).softmax(-1).amax(-1).median() < 0.5


def test_a_new_block_does_nothing_and_an_open_gate_would():
    """The answer to the fourth prediction."""
    x, condition, weight, bias, layer = exercises.branch(seeded(), 2, 5, 4, 3)
    assert torch.equal(exercises.adaln_branch(x, condition, 0 * weight, 0 * bias, layer), x)
    names = {says: wrong for wrong, says in TASKS["adaln_branch"].wrong_answers}
    (open_gate,) = (wrong for says, wrong in names.items() if says.startswith("The gate has a 1 added"))
    assert not torch.allclose(open_gate(x, condition, 0 * weight, 0 * bias, layer), x)


def test_patches_in_any_order_are_the_same_to_a_transformer_with_places():
    """The answer to the fifth prediction: reordered tokens and reordered places give reordered answers."""
    net = DiT().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.1, generator=seeded(parameter.numel()))
    order, h = torch.randperm(64, generator=seeded()), torch.randn(2, 64, 96, generator=seeded(1))
    tokens = torch.tensor([[2, 3, 5, 11] + [0] * 6] * 2)
    with torch.no_grad():
        condition, words, mask = net.embed(torch.tensor([500.0, 20.0]), tokens)
        straight = net.blocks[0](h + net.place, condition, words, mask)
        mixed = net.blocks[0]((h + net.place)[:, order], condition, words, mask)
    torch.testing.assert_close(mixed, straight[:, order], atol=1e-3, rtol=1e-3)


def test_half_the_patch_costs_four_times_and_the_comparison_sixteen_times():
    """The answer to the sixth prediction."""
    (_, coarse), (_, fine) = (exercises.block_bill(32, patch, 96, 10, 64) for patch in (4, 2))
    assert 4 < fine / coarse < 16
    assert fine - 4 * coarse + 2 * 3 * (6 * 96**2 + 2 * 10 * 64 * 96) == 4 * 96 * (256**2 - 4 * 64**2)


def test_a_null_word_over_the_first_word_leaves_the_difference_of_one_word():
    """The answer to the seventh prediction."""
    x, tokens, drop, table, _ = exercises.captions(seeded(), 6, 4, 1.0)
    names = {says: wrong for wrong, says in TASKS["caption_guidance"].wrong_answers}
    (kept,) = (wrong for says, wrong in names.items() if says.startswith("The null caption is not dropped"))
    difference = kept(x, tokens, drop, table, 1.0)[1] - kept(x, tokens, drop, table, 0.0)[1]
    length = (tokens > 0).sum(1, keepdim=True)
    torch.testing.assert_close(difference, (table[1] - table[tokens[:, 0]]) / length)


def test_blind_wrong_hues_are_the_neighbours_one_time_in_five():
    """The answer to the last prediction."""
    asked, read, hues = exercises.hues_read(seeded(), 40_000, 6, 0.0, 0.1)
    assert exercises.leakage(asked, read, hues)[1] == pytest.approx(0.2, abs=0.02)
