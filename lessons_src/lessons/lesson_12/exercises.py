"""Exercises of lesson 12: KL, scale, attention, adaLN, patches, a bill, captions dropped, and whose hue went where."""

import torch
from torch import Tensor

from lessons_src.exercises.inputs import normal, uniform, whole
from lessons_src.exercises.tasks import Case, Task, WrongWay, edits

NULL = 1


def encoder_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of an encoder's Gaussians to the standard normal, in nats a picture (Kingma & Welling 2014, appendix B)."""
    numbers = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
    return numbers.flatten(1).sum(1)


def latent_scale(mean: Tensor, log_variance: Tensor, z: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What diffusion is trained on, what the decoder gets, and how far log-SNR was off without the scale."""
    over = (0, 2, 3)
    centre = mean.mean(over)[:, None, None]
    variance = mean.var(over, correction=0) + log_variance.exp().mean(over)
    std = variance.sqrt()[:, None, None]
    return (z - centre) / std, drawn * std + centre, 2 * std.flatten().log()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Attention of several heads to words (Vaswani et al. 2017, section 3.2)."""
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def adaln_branch(x: Tensor, condition: Tensor, weight: Tensor, bias: Tensor, layer: Tensor) -> Tensor:
    """A branch of a DiT's block, scaled, shifted and gated by its condition (Peebles & Xie 2023, section 3.2)."""
    scale, shift, gate = (condition @ weight.T + bias)[:, None].chunk(3, -1)
    centred = x - x.mean(-1, keepdim=True)
    h = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    h = h * (1 + scale) + shift
    return x + gate * (h @ layer)


def picture_of_patches(tokens: Tensor, patch: int, columns: int) -> Tensor:
    """Tokens, one a patch, as pictures again."""
    B, N, width = tokens.shape
    parts = tokens.view(B, N // columns, columns, width // patch**2, patch, patch)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(B, -1, N // columns * patch, columns * patch)


def block_bill(side: int, patch: int, width: int, words: int, text: int) -> tuple[int, int]:
    """Tokens of a DiT, and floating-point operations of one block; a multiplication and an addition are two."""
    n = (side // patch) ** 2
    itself = 4 * n * width**2 + 2 * n**2 * width
    cross = 2 * n * width**2 + 2 * words * text * width + 2 * n * words * width
    mlp = 8 * n * width**2
    modulation = 6 * width**2
    return n, 2 * (itself + cross + mlp + modulation)


def predict_noise(x: Tensor, tokens: Tensor, table: Tensor) -> Tensor:
    """A network to look through: x (B, d) minus the mean of its caption's words, rows of a table; 0 is no word."""
    words = (tokens > 0).to(x)[..., None]
    return x - (table[tokens] * words).sum(1) / words.sum(1)


def caption_guidance(x: Tensor, tokens: Tensor, drop: Tensor, table: Tensor, w: float) -> tuple[Tensor, Tensor]:
    """The captions that training shows, some dropped, and the guided prediction (Ho & Salimans 2022)."""
    null = torch.zeros_like(tokens)
    null[:, 0] = NULL
    shown = torch.where(drop[:, None], null, tokens)
    eps_u = predict_noise(x, null, table)
    eps_c = predict_noise(x, tokens, table)
    return shown, eps_u + w * (eps_c - eps_u)


def leakage(asked: Tensor, read: Tensor, hues: int) -> tuple[Tensor, float]:
    """Hues asked for against hues read, as shares of a row, and the share of wrong ones that are the neighbour's."""
    neighbour = asked.flip(1)
    sure = read >= 0
    counts = torch.zeros(hues, hues, dtype=torch.float64)
    for want, got in zip(asked[sure].tolist(), read[sure].tolist(), strict=True):
        counts[want, got] += 1
    wrong = sure & (read != asked)
    stolen = wrong & (read == neighbour)
    return counts / counts.sum(1, keepdim=True), stolen.sum().item() / wrong.sum().item()


# --- Ways to go wrong


def _softmax_over_places(q, k, v, mask, heads):
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    scores = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-2) * mask[:, None, None]
    return (scores @ v).transpose(1, 2).flatten(2)


def _heads_over_the_words(q, k, v, mask, heads):
    B, N, width = q.shape
    q, k, v = (part.reshape(B, heads, part.shape[1], width // heads) for part in (q, k, v))
    scores = (q @ k.mT / (width // heads) ** 0.5).masked_fill(~mask[:, None, None], -torch.inf)
    return (scores.softmax(-1) @ v).reshape(B, N, width)


def _heads_before_places(q, k, v, mask, heads):
    B, N, width = q.shape
    right = attend(q, k, v, mask, heads).unflatten(2, (heads, -1))
    return right.transpose(1, 2).reshape(B, N, width)


def _only_the_words_dropped(x, tokens, drop, table, w):
    null = torch.where(tokens > 0, NULL, 0)
    shown = torch.where(drop[:, None], null, tokens)
    eps_u, eps_c = predict_noise(x, null, table), predict_noise(x, tokens, table)
    return shown, eps_u + w * (eps_c - eps_u)


def _no_words_at_all(x, tokens, drop, table, w):
    shown, _ = caption_guidance(x, tokens, drop, table, w)
    eps_c = predict_noise(x, tokens, table)
    return shown, x + w * (eps_c - x)


def _of_all_objects(asked, read, hues):
    table, _ = leakage(asked, read, hues)
    return table, ((read == asked.flip(1)).sum() / read.numel()).item()


def _of_those_read(asked, read, hues):
    table, _ = leakage(asked, read, hues)
    return table, ((read == asked.flip(1)).sum() / (read >= 0).sum()).item()


# --- Inputs


def encoded(generator: torch.Generator, *shape: int, spread: float = 0.7) -> tuple[Tensor, Tensor]:
    """Arguments for encoder_kl."""
    return normal(generator, *shape), spread * normal(generator, *shape) - 1


def raw_latents(generator: torch.Generator, N: int, channels: int, side: int, noisy: bool = False) -> tuple:
    """Arguments for latent_scale: channels of unlike spread; noisy: encoders that draw as widely as they mean."""
    apart = 0.3 + 3 * torch.rand(channels, 1, 1, generator=generator, dtype=torch.float64)
    centre, place = 2 * normal(generator, channels, 1, 1), normal(generator, channels, side, side)
    mean = centre + apart * (normal(generator, N, channels, side, side) + 0.5 * place)
    log_variance = (apart.square() * (1 if noisy else 0.2)).log() + 0.3 * normal(generator, N, channels, side, side)
    z = centre + apart * normal(generator, 5, channels, side, side)
    return mean, log_variance, z, normal(generator, 5, channels, side, side)


def looking(generator: torch.Generator, B: int, places: int, words: int, width: int, heads: int) -> tuple:
    """Arguments for attend: captions of unequal length, the last words of some only fill up."""
    q, k, v = (2 * normal(generator, B, n, width) for n in (places, words, words))
    length = torch.randint(2, words, (B,), generator=generator)
    return q, k, v, torch.arange(words) < length[:, None], heads


def branch(generator: torch.Generator, B: int, N: int, width: int, context: int) -> tuple:
    """Arguments for adaln_branch."""
    x = uniform(generator, 1.5, 3) * normal(generator, B, N, width) + normal(generator, B, 1, width)
    weight, bias = 0.5 * normal(generator, 3 * width, context), 0.3 * normal(generator, 3 * width)
    return x, normal(generator, B, context), weight, bias, normal(generator, width, width) / width**0.5


def cut(generator: torch.Generator, B: int, channels: int, rows: int, columns: int, patch: int) -> tuple:
    """Arguments for picture_of_patches."""
    return normal(generator, B, rows * columns, channels * patch**2), patch, columns


def sizes(generator: torch.Generator, patch: int) -> tuple[int, int, int, int, int]:
    """Arguments for block_bill."""
    n, words = whole(generator, 5, 10), (7, 11, 13)[whole(generator, 0, 2)]
    return patch * n, patch, 24 * whole(generator, 4, 8), words, 16 * whole(generator, 2, 4)


def captions(generator: torch.Generator, B: int, length: int, w: float, d: int = 3) -> tuple:
    """Arguments for caption_guidance: some captions are shorter, the first is dropped and the last is not."""
    tokens = torch.randint(2, 12, (B, length), generator=generator)
    tokens = tokens * (torch.arange(length) < torch.randint(2, length + 1, (B, 1), generator=generator))
    drop = torch.rand(B, generator=generator) < 0.4
    drop[0], drop[-1] = True, False
    return normal(generator, B, d), tokens, drop, normal(generator, 12, d), w


def hues_read(generator: torch.Generator, n: int, hues: int, leak: float, unsure: float) -> tuple[Tensor, Tensor, int]:
    """Arguments for leakage: pairs of unequal hues; a share leaks, as many are another hue, some cannot be read."""
    first = torch.arange(n) % hues
    asked = torch.stack([first, (first + torch.randint(1, hues, (n,), generator=generator)) % hues], 1)
    chance = torch.rand(n, 2, generator=generator)
    other = torch.randint(hues, (n, 2), generator=generator)
    read = torch.where(chance < leak, asked.flip(1), torch.where(chance < leak + 0.15, other, asked))
    read = torch.where(chance > 1 - unsure, -2, read)
    read[:hues, 0], read[hues, 0] = asked[:hues, 0], asked[hues, 1]  # every row has something, and something leaks
    return asked, read, hues


TASKS = (
    Task(
        encoder_kl,
        minutes=4,
        difficulty=1,
        cases=(
            Case("latents of pictures", lambda g: encoded(g, 3, 4, 2, 2)),
            Case("lists of numbers", lambda g: encoded(g, 5, 6)),
            Case("encoders that are very sure", lambda g: (normal(g, 4, 3), -6 + normal(g, 4, 3))),
        ),
        mistakes=edits("""
            log_variance.exp() → (2 * log_variance).exp()
                You took the log-variance for the log of the standard deviation: the variance is its exp.
            log_variance.exp() → (log_variance / 2).exp()
                This has the standard deviation where the variance belongs: exp(log_variance), without the half.
            - 1 - log_variance → - log_variance
                The -1 is missing: a Gaussian that is the standard normal has KL 0.
            - 1 - log_variance → - 1 + log_variance
                The log has the wrong sign: as the variance goes to 0 the KL must grow.
            - 1 - log_variance → - 1 - log_variance / 2
                The log has its half twice: (mean^2 + variance - 1 - log variance) / 2.
            - log_variance) / 2 → - log_variance)
                The half is missing: every KL comes out twice as large.
            mean.square() + → mean.abs() +
                The mean counts by its square, not by its size.
            mean.square() + → 0 * mean +
                The mean is forgotten. An encoder that is far from 0 pays for it.
            (mean.square() + log_variance.exp() - 1 - log_variance) / 2 → ((mean.square() + 1) / log_variance.exp() - 1 + log_variance) / 2
                This is the KL the other way round, of the standard normal to the encoder's Gaussian.
            (mean.square() + log_variance.exp() - 1 - log_variance) / 2 → -(mean.square() + log_variance.exp() - 1 - log_variance) / 2
                The sign is turned round. This is what stands in a bound that is made large; a KL is never below 0.
            .sum(1) → .mean(1)
                You averaged over the latent numbers. A picture's KL is their sum.
            numbers.flatten(1).sum(1) → numbers.flatten(1).sum(1) / 0.6931471805599453
                These are bits. Asked for are nats: natural logarithms all along.
            numbers.flatten(1).sum(1) → numbers.flatten(1).sum(1).mean()
                You averaged over the pictures too. Return one number a picture.
        """),  # noqa: E501
        hints=(
            "Each latent number is a Gaussian of its own, so their KL add up. What is the KL of one?",
            "KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1 - log s^2) / 2, and log s^2 is what the encoder tells.",
            "`(mean**2 + log_variance.exp() - 1 - log_variance) / 2`, flattened, summed over all but the batch.",
        ),
    ),
    Task(
        latent_scale,
        minutes=6,
        difficulty=2,
        cases=(
            Case("four channels", lambda g: raw_latents(g, 40, 4, 3)),
            Case("an encoder that draws widely", lambda g: raw_latents(g, 30, 3, 4, noisy=True)),
            Case("as many channels as columns", lambda g: raw_latents(g, 30, 4, 4)),
        ),
        mistakes=edits("""
            (z - centre) / std, drawn * std + centre → (z - centre) / std**2, drawn * std**2 + centre
                The scale is applied twice: what diffusion sees then has spread 1 / std.
            (z - centre) / std, drawn * std + centre → z, drawn * std + centre
                The scale is applied on decode only. Diffusion is trained on latents as they come, and all that it
                draws is stretched.
            (z - centre) / std, drawn * std + centre → (z - centre) / std, drawn
                The scale is applied on encode only. The decoder has never seen standardised latents: bring them back.
            (z - centre) / std, drawn * std + centre → (z - centre) * std, drawn / std + centre
                The scale is turned round: divide by std to come to spread 1, multiply to come back.
            (z - centre) / std, drawn * std + centre → z / std, drawn * std
                The means of the channels are forgotten: latents then have spread 1 around another place than 0.
            (z - centre) / std, drawn * std + centre → z / std - centre, (drawn + centre) * std
                The mean is subtracted after the division. It is measured before: take it away first.
            drawn * std + centre → (drawn + centre) * std
                On the way back the order is wrong: first multiply by std, then add the mean.
            mean.mean(over)[:, None, None] → z.mean(over)[:, None, None]
                The mean is taken from the new latents. It is stored once, from those of the training pictures.
            mean.var(over, correction=0) + log_variance.exp().mean(over) → mean.var(over, correction=0)
                This is the spread of the means. Drawn latents vary more: add the mean of their variances.
            mean.var(over, correction=0) + log_variance.exp().mean(over) → log_variance.exp().mean(over)
                This is the noise of the encoder alone. Most of the spread is that of its means.
            mean.var(over, correction=0) + log_variance.exp().mean(over) → mean.square().mean(over) + log_variance.exp().mean(over)
                This is the mean square, which has the mean of the channel in it. Take the spread around it.
            mean.var(over, correction=0) + log_variance.exp().mean(over) → (mean.std(over, correction=0) + (log_variance / 2).exp().mean(over)).square()
                You added standard deviations. Variances add.
            mean.var(over, correction=0) + log_variance.exp().mean(over) → (mean.var(correction=0) + log_variance.exp().mean()).expand(mean.shape[1])
                There is one spread for all channels. Each channel has its own.
            2 * std.flatten().log() → std.flatten().log()
                An amplitude counts by its square in a ratio of powers: 2 log std.
            2 * std.flatten().log() → -2 * std.flatten().log()
                The sign: wider latents have more signal in them, so log-SNR is too high where std is above 1.
        """),  # noqa: E501
        hints=(
            "Two ways with the same two numbers a channel: one leads to mean 0 and spread 1, the other one back.",
            "The variance of a drawn latent is the variance of the means plus the mean of the variances, over pictures "
            "and places. Latents that are std times too wide have std^2 times too much signal.",
            "`std = (mean.var((0, 2, 3), correction=0) + log_variance.exp().mean((0, 2, 3))).sqrt()`, then "
            "`(z - m) / s`, `drawn * s + m` with shapes (C, 1, 1), and `2 * std.log()`.",
        ),
    ),
    Task(
        attend,
        minutes=8,
        difficulty=2,
        cases=(
            Case("one head", lambda g: looking(g, 3, 5, 7, 4, 1)),
            Case("three heads", lambda g: looking(g, 4, 5, 6, 12, 3)),
            Case("as many places as words", lambda g: looking(g, 3, 6, 6, 8, 2)),
        ),
        mistakes=(
            *edits("""
                / q.shape[-1] ** 0.5 → / 1
                    1/sqrt(d) is missing: scores of many numbers are far apart, and softmax then takes one word alone.
                / q.shape[-1] ** 0.5 → * q.shape[-1] ** 0.5
                    You multiplied by sqrt(d). Divide, so that the scores of random vectors have spread 1.
                / q.shape[-1] ** 0.5 → / q.shape[-1]
                    You divided by d. Scores of random vectors have the spread sqrt(d).
                / q.shape[-1] ** 0.5 → / (q.shape[-1] * heads) ** 0.5
                    d is the width of all heads together. Each head compares vectors of width / heads.
                / q.shape[-1] ** 0.5 → / k.shape[-2] ** 0.5
                    You divided by the root of the number of words. d is the length of the vectors.
                ~mask[:, None, None], -torch.inf → ~mask[:, None, None], 0.0
                    A score of 0 does not leave a word out: exp(0) = 1. Give it minus infinity.
                ~mask[:, None, None], -torch.inf → mask[:, None, None], -torch.inf
                    The mask is turned round: it is True at words, and you looked only at what fills up.
                scores.masked_fill(~mask[:, None, None], -torch.inf) → scores
                    The mask is forgotten: everybody looks at what fills up behind the last word, too.
                scores.softmax(-1) → scores.exp()
                    The shares are not divided by their sum.
                (scores.softmax(-1) @ v) → ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * mask[:, None, None] @ v)
                    The mask comes after the softmax: the shares of the words that are left no longer add up to 1.
                (scores.softmax(-1) @ v) → (scores.softmax(-1) @ k)
                    You mixed the keys. Keys are compared with; values are what is mixed.
                (scores.softmax(-1) @ v) → ((scores == scores.amax(-1, keepdim=True)).to(v) @ v)
                    You took the best word alone. Softmax mixes all, by their shares.
            """),
            WrongWay(
                _softmax_over_places,
                "Softmax runs over the wrong axis, the places: a word then shares itself among them. A place shares "
                "its look among the words.",
            ),
            WrongWay(
                _heads_over_the_words,
                "The heads are cut out of the words: view(B, heads, M, d) takes whole rows. A head is a part of each "
                "vector: cut the width, then transpose.",
            ),
            WrongWay(
                _heads_before_places,
                "The heads are put together in the wrong order: transpose places and heads back before you flatten.",
            ),
        ),
        hints=(
            "Four lines: cut into heads, compare, share out, mix. Over which axis do shares add up to 1?",
            "softmax(q k^T / sqrt(d)) v over the words, d = width / heads. Words where the mask is False get the score "
            "minus infinity before the softmax.",
            "`part.unflatten(2, (heads, -1)).transpose(1, 2)` for all three, "
            "`scores.masked_fill(~mask[:, None, None], -torch.inf)`, and back by `.transpose(1, 2).flatten(2)`.",
        ),
    ),
    Task(
        adaln_branch,
        minutes=6,
        difficulty=2,
        cases=(
            Case("a few tokens", lambda g: branch(g, 3, 5, 4, 6)),
            Case("as many samples as tokens", lambda g: branch(g, 4, 4, 6, 3)),
            Case("a wide one", lambda g: branch(g, 2, 3, 16, 8)),
        ),
        mistakes=edits("""
            (1 + scale) → scale
                Without the 1 a new block, whose scale is 0, would wipe out what comes in: multiply by 1 + scale.
            scale, shift, gate = → shift, scale, gate =
                Scale and shift have changed places: the first third of the modulation is the scale.
            scale, shift, gate = → gate, scale, shift =
                The gate is not the first third of the modulation but the last.
            [:, None].chunk(3, -1) → [:, None].unflatten(2, (-1, 3)).unbind(-1)
                Every third number is not a third: chunk cuts the modulation into three blocks.
            + bias → + 0 * bias
                The bias of the modulation is forgotten.
            x + gate * (h @ layer) → x + h @ layer
                The gate is forgotten: a new block must add nothing, and its gate of 0 sees to that.
            x + gate * (h @ layer) → x + (1 + gate) * (h @ layer)
                The gate has a 1 added, as the scale has. It must not: a gate of 0 is shut.
            x + gate * (h @ layer) → gate * (h @ layer)
                What came in is lost: the branch is added to x.
            x + gate * (h @ layer) → gate * (x + h @ layer)
                The gate shuts x out, too. Only the branch is gated.
            x + gate * (h @ layer) → x + (gate * h) @ layer
                You gated what goes into the layer. Gate what comes out of it.
            x + gate * (h @ layer) → h + gate * (h @ layer)
                The branch is added to its own normalised input. Add it to x as it came.
            centred = x - x.mean(-1, keepdim=True) → centred = x
                The mean is not taken away. LayerNorm makes mean 0 and variance 1 in every token.
            h * (1 + scale) + shift → (h + shift) * (1 + scale)
                You shifted first. Scale, then shift.
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() → centred / (centred.square().mean(-1, keepdim=True) + 1e-5)
                You divided by the variance. Divide by its root.
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() → centred / (centred.square().sum(-1, keepdim=True) / (x.shape[-1] - 1) + 1e-5).sqrt()
                The variance is that of torch.var, divided by d - 1. LayerNorm divides by d.
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() → (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
                You normalised over the tokens. Each token is normalised alone, over its width.
            h = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() → h = x
                Nothing is normalised before the scale.
        """),  # noqa: E501
        hints=(
            "Three thirds of one line of numbers: what multiplies, what is added, and how much is let in.",
            "Normalise each token over its width, without weights of its own; times (1 + scale), plus shift; through "
            "the layer; times gate; plus x. One modulation a sample serves all its tokens.",
            "`scale, shift, gate = (condition @ weight.T + bias)[:, None].chunk(3, -1)` and "
            "`F.layer_norm(x, x.shape[-1:])`, whose small number is 1e-5.",
        ),
    ),
    Task(
        picture_of_patches,
        minutes=6,
        difficulty=2,
        cases=(
            Case("wider than high", lambda g: cut(g, 2, 3, 2, 4, 2)),
            Case("as many channels as rows", lambda g: cut(g, 3, 3, 3, 3, 2)),
            Case("patches of 4 x 4", lambda g: cut(g, 2, 2, 3, 2, 4)),
        ),
        mistakes=edits("""
            parts.permute(0, 3, 1, 4, 2, 5).reshape → parts.reshape
                This only changes the shape: the numbers of a patch come to lie in one row. Permute before you reshape.
            parts.permute(0, 3, 1, 4, 2, 5) → parts.transpose(4, 5).permute(0, 3, 1, 4, 2, 5)
                The pixels within a patch are in the wrong order: row by row, not column by column.
            parts.permute(0, 3, 1, 4, 2, 5) → parts.permute(0, 3, 4, 1, 5, 2)
                The pixels of a patch are strewn over the picture: the patch's row comes before the row within it.
            parts.permute(0, 3, 1, 4, 2, 5) → parts.flip(1).permute(0, 3, 1, 4, 2, 5)
                The rows of patches stand upside down: the first token is at the top.
            parts.permute(0, 3, 1, 4, 2, 5) → parts.flip(2).permute(0, 3, 1, 4, 2, 5)
                The columns of patches are mirrored: the first token is at the left.
            view(B, N // columns, columns, width // patch**2, patch, patch) → view(B, columns, N // columns, width // patch**2, patch, patch).transpose(1, 2)
                The patches are in the wrong order: tokens go row by row, so the column changes first.
            view(B, N // columns, columns, width // patch**2, patch, patch) → view(B, N // columns, columns, patch, patch, width // patch**2).movedim(5, 3)
                The channels are taken last. Here a token holds channel by channel, and within it the pixels.
            view(B, N // columns, columns, width // patch**2, patch, patch) → view(B, N // columns, columns, patch, width // patch**2, patch).transpose(3, 4)
                The channels are taken between the rows and the columns of a patch. They come first.
        """),  # noqa: E501
        hints=(
            "Give every index its name first: row of patches, column of patches, channel, row within, column within.",
            "View as (B, rows, columns, C, patch, patch), permute to (B, C, rows, patch, columns, patch), and fold "
            "rows with patch and columns with patch.",
            "`tokens.view(B, N // columns, columns, -1, patch, patch).permute(0, 3, 1, 4, 2, 5)`, then reshape.",
        ),
    ),
    Task(
        block_bill,
        minutes=6,
        difficulty=2,
        cases=(
            Case("latents, a token a place", lambda g: sizes(g, 1), tolerance=1e-9),
            Case("patches of 2 x 2", lambda g: sizes(g, 2), tolerance=1e-9),
            Case("patches of 4 x 4", lambda g: sizes(g, 4), tolerance=1e-9),
        ),
        mistakes=edits("""
            2 * (itself + cross + mlp + modulation) → itself + cross + mlp + modulation
                These are multiplications. Each comes with an addition, and both are counted.
            (side // patch) ** 2 → side // patch
                These are the tokens of one row. A square picture has that many rows.
            (side // patch) ** 2 → (side // patch) ** 2 + 0 * patch + words
                The words are no tokens of the picture: they are looked at, and do not go through the block.
            4 * n * width**2 + → 3 * n * width**2 +
                Self-attention has four layers: queries, keys, values, and one that comes after.
            + 2 * n**2 * width → + 0
                The comparison of all tokens with all is forgotten. It grows with the square of their number.
            + 2 * n**2 * width → + n**2 * width
                Attention multiplies twice: queries with keys, and shares with values.
            + 2 * n**2 * width → + 12 * n**2 * width
                Every head is counted with the whole width. Six heads of a sixth of the width cost what one would.
            2 * n * width**2 + 2 * words * text * width → 4 * n * width**2
                Keys and values of cross-attention are made of the words: so many words, not so many tokens.
            + 2 * n * words * width → + 0
                The comparison of tokens with words is forgotten.
            2 * words * text * width → 2 * words * width**2
                Words have a width of their own, text, from which their keys and values are made.
            cross = 2 * n * width**2 + 2 * words * text * width + 2 * n * words * width → cross = 0
                Cross-attention is forgotten: each block looks at the words, too.
            8 * n * width**2 → 2 * n * width**2
                The MLP is four times as wide between its two layers.
            8 * n * width**2 → 4 * n * width**2
                Of the MLP you counted one layer. It has two.
            6 * width**2 → 6 * n * width**2
                The modulation is made once a sample, not once a token.
            modulation = 6 * width**2 → modulation = 0
                The modulation is forgotten: one layer from the condition to six numbers a channel.
        """),
        hints=(
            "A layer from a to b numbers takes a b multiplications for each token that goes through it. List the "
            "layers, then add the two products of each attention.",
            "Self: 4 n d^2 and 2 n^2 d. Cross: 2 n d^2 for tokens, 2 m c d for words, 2 n m d for the products. MLP: "
            "8 n d^2. Modulation: 6 d^2. All of that twice.",
            "`n = (side // patch) ** 2`, then `2 * (14 * n * d**2 + 2 * n**2 * d + 2 * m * c * d + 2 * n * m * d + "
            "6 * d**2)` with `d, m, c = width, words, text`.",
        ),
    ),
    Task(
        caption_guidance,
        minutes=6,
        difficulty=2,
        cases=(
            Case("short captions", lambda g: captions(g, 6, 4, uniform(g, 1.5, 5))),
            Case("as many captions as words", lambda g: captions(g, 5, 5, uniform(g, 1.5, 5))),
            Case("a negative w", lambda g: captions(g, 6, 8, uniform(g, -3, -1.5))),
        ),
        mistakes=(
            *edits("""
                null = torch.zeros_like(tokens) → null = tokens.clone()
                    The null caption is not dropped: its first word is the null word, and the others stand behind it.
                null[:, 0] = NULL → null[:, 0] = 0
                    This is an empty caption, without a word to look at: the mean of no words is NaN. The null caption
                    has one word, 1.
                null[:, 0] = NULL → null[:, -1] = NULL
                    The null word stands at the end. It comes first, and zeros fill up behind it.
                torch.where(drop[:, None], null, tokens) → torch.where(drop[:, None], tokens, null)
                    The mask is turned round: captions are dropped where drop is True.
                torch.where(drop[:, None], null, tokens) → tokens
                    No caption is dropped in training: the network never learns what to say without one.
                torch.where(drop[:, None], null, tokens) → null
                    All captions are dropped in training. Only those where drop is True.
                predict_noise(x, tokens, table) → predict_noise(x, shown, table)
                    You drew with the captions that training has dropped. Dropping belongs to training alone.
                eps_u + w * (eps_c - eps_u) → eps_u + (1 + w) * (eps_c - eps_u)
                    This is the other convention, in which w = 0 is the caption alone. Here that is w = 1.
                eps_u + w * (eps_c - eps_u) → eps_c + w * (eps_u - eps_c)
                    The two have changed places: this goes away from the caption.
                eps_u + w * (eps_c - eps_u) → eps_c + w * (eps_c - eps_u) - w * eps_c
                    The sum of the two weights is not 1: eps_u + w (eps_c - eps_u) has 1 - w and w.
                eps_u + w * (eps_c - eps_u) → w * (eps_c - eps_u)
                    This is the difference alone: add it to eps_u.
                eps_u + w * (eps_c - eps_u) → eps_c
                    The guidance is forgotten: this is the caption's own prediction, w = 1.
            """),
            WrongWay(
                _only_the_words_dropped,
                "You put a null word in place of every word: the network is told how long the caption was. The null "
                "caption has one word.",
            ),
            WrongWay(
                _no_words_at_all,
                "Without a caption you let the network see no words at all. Show it the null caption, the one that it "
                "was trained with.",
            ),
        ),
        hints=(
            "The same null caption in two places: in training instead of some captions, in drawing beside all of them.",
            "It is a row of zeros with a 1 at its start, as long as the others. Training shows it where drop is True. "
            "Drawing asks twice, with all captions as they are.",
            "`null = torch.zeros_like(tokens)`, `null[:, 0] = 1`, `torch.where(drop[:, None], null, tokens)`, and "
            "`eps_u + w * (eps_c - eps_u)`.",
        ),
    ),
    Task(
        leakage,
        minutes=6,
        difficulty=2,
        cases=(
            Case("hues that leak", lambda g: hues_read(g, 200, 4, 0.2, 0.1)),
            Case("six hues, many not read", lambda g: hues_read(g, 300, 6, 0.1, 0.3)),
            Case("three hues", lambda g: hues_read(g, 240, 3, 0.3, 0.1)),
        ),
        mistakes=(
            *edits("""
                counts[want, got] += 1 → counts[got, want] += 1
                    Rows and columns have changed places: a row is a hue that was asked for.
                counts / counts.sum(1, keepdim=True) → counts
                    These are counts. Divide each row by its sum.
                counts / counts.sum(1, keepdim=True) → counts / counts.sum(0)
                    You divided the columns: of what was read, how much was asked for. Divide each row by its sum.
                counts / counts.sum(1, keepdim=True) → counts / counts.sum(1)
                    Without keepdim=True the sums of the rows divide the columns: row and column do not fit.
                counts / counts.sum(1, keepdim=True) → counts / counts.sum()
                    These are shares of all objects. Divide each row by its own sum.
                sure = read >= 0 → sure = read < hues
                    -2 means that no hue could be read. As an index it is the last hue but one: leave those out.
                counts / counts.sum(1, keepdim=True) → counts / asked.flatten().bincount(minlength=hues)[:, None]
                    The rows do not add up to 1, as they are divided by all objects asked for. Divide by those whose hue
                    was read.
                wrong = sure & (read != asked) → wrong = read != asked
                    What could not be read counts as wrong. It has no hue, so nothing can be said of where it comes
                    from.
                neighbour = asked.flip(1) → neighbour = asked.roll(1, 0)
                    You compared with the hues of another picture. The neighbour is in the same one.
                neighbour = asked.flip(1) → neighbour = read.flip(1)
                    You compared with what was read of the neighbour. Compare with what was asked for: in a swap both
                    hues leak.
                stolen = wrong & (read == neighbour) → stolen = wrong & (read != neighbour)
                    These are the wrong hues that are *not* the neighbour's.
                stolen.sum().item() / wrong.sum().item() → stolen[:, 0].sum().item() / wrong[:, 0].sum().item()
                    Only the first objects are counted. Hues leak both ways.
                stolen.sum().item() / wrong.sum().item() → stolen.any(1).sum().item() / wrong.any(1).sum().item()
                    You counted pictures. Count objects: a picture may have two wrong hues.
                stolen.sum().item() / wrong.sum().item() → wrong.sum().item() / sure.sum().item()
                    This is the share of wrong hues. Asked for is how many of *these* are the neighbour's.
            """),
            WrongWay(
                _of_all_objects,
                "This is the share of all objects. Asked for is the share of the wrong hues.",
            ),
            WrongWay(
                _of_those_read,
                "This is the share of all hues that were read. Asked for is the share of the wrong ones.",
            ),
        ),
        hints=(
            "Two questions: where does each hue go, and, if it is wrong, whose is it?",
            "Leave out objects whose hue could not be read. Count pairs (asked, read), divide each row by its sum. "
            "Then compare the wrong ones with the other object's hue: asked.flip(1).",
            "`wrong = (read >= 0) & (read != asked)`, `stolen = wrong & (read == asked.flip(1))`.",
        ),
    ),
)
