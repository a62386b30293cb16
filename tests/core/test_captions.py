"""Attributes of drawn shapes are what they were drawn with; captions, tokens, the two towers, their loss, the score."""

import math

import pytest
import torch
from drawn import seeded

from lessons_src import captions, data, weights
from lessons_src.captions import UNSAID, WORDS, Captioned, every, slant, thickness, tokens, write
from lessons_src.evaluation import in_batches
from lessons_src.losses import Contrast, Samples
from lessons_src.networks import JointEmbedding
from lessons_src.training import Recipe, Trainer, train


def drawn(inside):
    """An image whose ink is 1 where inside(column, row) > 1/2 and falls to 0 over a pixel; the centre is (0, 0)."""
    place = torch.arange(28, dtype=torch.float64) - 13.5
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    return (2 * (inside(columns, rows) + 0.5).clamp(0, 1) - 1)[None, None].float()


def stroke(width, degrees, length=18):
    """A straight stroke with round ends that leans to the right by `degrees`."""
    right, up = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))

    def inside(column, row):
        along = (column * right - row * up).clamp(-length / 2, length / 2)
        return width / 2 - torch.hypot(column - along * right, row + along * up)

    return drawn(inside)


def ring(width, diameter=16):
    return drawn(lambda column, row: width / 2 - (torch.hypot(column, row) - diameter / 2).abs())


# --- Measured attributes


@pytest.mark.parametrize(("width", "within"), [(2, 0.1), (3, 0.03), (4, 0.03), (5, 0.03)])
@pytest.mark.parametrize("degrees", [-30, 0, 15, 45, 80])
def test_thickness_of_a_stroke_is_twice_its_area_over_its_edge(width, within, degrees):
    ends = math.pi * width
    expected = 2 * (18 * width + ends * width / 4) / (2 * 18 + ends)
    assert thickness(stroke(width, degrees)).item() == pytest.approx(expected, rel=within)


@pytest.mark.parametrize("width", [2, 3, 4, 5])
def test_thickness_of_a_ring_which_has_no_ends_is_its_width(width):
    assert thickness(ring(width)).item() == pytest.approx(width, rel=0.05)


@pytest.mark.parametrize("degrees", [-30, -10, 0, 10, 20, 30])
def test_slant_of_a_stroke_is_its_angle(degrees):
    assert slant(stroke(2, degrees)).item() == pytest.approx(degrees, abs=1)


def test_shearing_a_digit_by_a_pixel_a_row_adds_one_to_the_tangent_of_its_slant():
    x = torch.nn.functional.pad(data.one_each(), (28, 28), value=-1)
    sheared = torch.stack([x[:, :, row].roll(13 - row, -1) for row in range(28)], 2)  # upper rows go to the right
    assert torch.allclose(slant(sheared).deg2rad().tan(), slant(x).deg2rad().tan() + 1)


def test_a_mirrored_digit_leans_the_other_way_and_is_as_thick():
    x = data.digits("test")[0][:50]
    assert torch.allclose(slant(x.flip(3)), -slant(x))
    for same in (x.flip(3), x.flip(2), x.mT, torch.nn.functional.pad(x, (3, 0, 0, 2), value=-1)):
        assert torch.allclose(thickness(same), thickness(x))


def test_an_image_without_ink_has_no_thickness_and_no_slant():
    blank = torch.full((2, 1, 28, 28), -1.0)
    assert thickness(blank).tolist() == slant(blank).tolist() == [0, 0]


def test_thresholds_are_the_outer_quarters_of_the_training_digits():
    x, _ = data.digits("train")
    quarters = torch.tensor([0.25, 0.75], dtype=torch.float64)
    assert thickness(x).quantile(quarters).tolist() == pytest.approx([captions.THIN, captions.BOLD], abs=0.006)
    assert slant(x).quantile(quarters).tolist() == pytest.approx([captions.LEFT, captions.RIGHT], abs=0.06)


def test_attributes_of_drawn_strokes():
    x = torch.cat([stroke(1.5, -20), stroke(2.8, 0), stroke(4, 25), stroke(4, 5)])
    found = captions.attributes(x, torch.tensor([1, 1, 7, 1]))
    assert found.tolist() == [[1, 0, 0], [1, 1, 1], [7, 2, 2], [1, 2, 1]]
    assert write(found) == [
        "a thin one leaning left", "a plain upright one", "a bold seven leaning right", "a bold upright one",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("x", "label", "error", "named"),
    [
        (torch.zeros(2, 1, 28, 28), torch.tensor([1, 2]), ValueError, "x is .*values from -1 to 1"),
        (torch.full((2, 3, 28, 28), -1.0), torch.tensor([1, 2]), ValueError, r"x is .*shape \(n, 1, H, W\)"),
        (torch.full((2, 1, 28, 28), math.nan), torch.tensor([1, 2]), ValueError, "x is .*finite"),
        (torch.full((2, 1, 28, 28), -1.0), torch.tensor([1]), ValueError, r"label is .*shape \(2,\)"),
        (torch.full((2, 1, 28, 28), -1.0), torch.tensor([1, 10]), ValueError, "label is .*digits from 0 to 9"),
        (torch.full((2, 1, 28, 28), -1.0), torch.tensor([1.0, 2.0]), TypeError, "label is .*int64"),
    ],
)
def test_attributes_of_something_else_are_refused(x, label, error, named):
    with pytest.raises(error, match=named):
        captions.attributes(x, label)


# --- Captions and tokens


def test_captions_say_what_they_are_asked_to_and_no_more():
    said = torch.tensor([[3, 0, 3], [7, 2, 0], [8, 3, 3], [8, 3, 1], [3, 3, 1], [8, 0, 1], [10, 3, 2], UNSAID.tolist()])
    assert write(said) == [
        "a thin three", "a bold seven leaning left", "an eight", "an upright eight", "an upright three",
        "a thin upright eight", "a digit leaning right", "a digit",
    ]  # fmt: skip


def test_every_caption_is_another_one_and_all_words_are_used():
    full, all_of_them = write(every()), write(every(unsaid=True))
    assert len(set(full)) == len(full) == 90
    assert len(set(all_of_them)) == len(all_of_them) == 11 * 4 * 4
    assert set(full) < set(all_of_them)
    assert not any("digit" in caption for caption in full)
    assert tokens(all_of_them).unique().tolist() == list(range(len(WORDS)))
    assert max(len(caption.split()) for caption in all_of_them) == captions.LENGTH


def test_tokens_spell_the_caption():
    for caption, row in zip(write(every(unsaid=True)), tokens(write(every(unsaid=True))).tolist(), strict=True):
        assert " ".join(WORDS[token] for token in row).rstrip() == caption
    assert tokens(["A Thin THREE"]).equal(tokens(["a thin three"]))
    assert tokens([]).shape == (0, captions.LENGTH)


@pytest.mark.parametrize(
    ("said", "error", "named"),
    [
        (
            ["a three", "a fat green seven"],
            ValueError,
            "'a fat green seven'; expected known words; unknown: fat, green;",
        ),
        (["a thin thin thin thin three"], ValueError, "1 to 5 words"),
        ([" "], ValueError, "1 to 5 words"),
        ("a three", TypeError, "captions is 'a three'; expected a list"),
        ([3], TypeError, "expected a list of captions"),
    ],
)
def test_captions_that_nobody_understands_are_refused(said, error, named):
    with pytest.raises(error, match=named):
        tokens(said)


@pytest.mark.parametrize("bad", [torch.tensor([[11, 0, 0]]), torch.tensor([[0, 0, -1]]), torch.tensor([3, 0, 0])])
def test_attributes_that_no_word_is_for_are_refused(bad):
    with pytest.raises(ValueError, match=r"attributes is .*values from 0 to \[10, 3, 3\]"):
        write(bad)
    with pytest.raises(TypeError, match=r"attributes is .*int64"):
        write(bad.float())


# --- Batches, towers, loss


def captioned(n=200, **options):
    x, y = (part[:n] for part in data.digits("train"))
    return Captioned(x, captions.attributes(x, y), **options)


def test_batches_say_nothing_wrong_and_leave_out_what_they_should():
    pairs = captioned(unsaid=0.3)
    x, said = pairs(3000, seeded())
    assert x.equal(pairs(3000, seeded())[0])
    picture = {image.numpy().tobytes(): row for image, row in zip(pairs.x, pairs.attributes, strict=True)}
    of_tokens = dict(zip(map(tuple, pairs.table.view(-1, captions.LENGTH).tolist()), every(True), strict=True))
    told = torch.stack([of_tokens[tuple(row)] for row in said.tolist()])
    true = torch.stack([picture[image.numpy().tobytes()] for image in x])
    assert ((told == true) | (told == UNSAID)).all()
    assert (told == UNSAID).double().mean(0).tolist() == pytest.approx([0.3] * 3, abs=4 * (0.21 / 3000) ** 0.5)


def test_all_or_nothing_can_be_left_unsaid():
    assert captioned(unsaid=1.0)(20, seeded())[1].equal(tokens(["a digit"] * 20))
    one = Captioned(data.one_each()[3:4], torch.tensor([[3, 1, 2]]), unsaid=0.0)
    assert one(2, seeded())[1].equal(tokens(["a plain three leaning right"] * 2))


def test_pictures_without_attributes_are_refused():
    with pytest.raises(ValueError, match=r"attributes is .*shape \(10, 3\)"):
        Captioned(data.one_each(), torch.zeros(9, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"unsaid is 1\.5"):
        captioned(unsaid=1.5)


def untrained(seed=0):
    torch.manual_seed(seed)
    return JointEmbedding(len(WORDS)).eval()


def test_towers_give_unit_vectors_and_logits_are_their_scaled_cosines():
    net, x, said = untrained(), data.one_each(), tokens(["a thin three", "a digit"])
    image, text = net.image(x), net.text(said)
    assert torch.allclose(image.norm(dim=1), torch.ones(10))
    assert torch.allclose(text.norm(dim=1), torch.ones(2))
    assert torch.allclose(net(x, said), image @ text.T / 0.07, atol=1e-5)
    assert torch.allclose(net.cosine(x, said[:1]), (image @ text.T)[:, 0], atol=1e-6)
    assert torch.allclose(net.cosine(x[:2], said), (image @ text.T)[[0, 1], [0, 1]], atol=1e-6)
    net.log_scale.data.fill_(9.0)
    assert torch.allclose(net(x, said), 100 * image @ text.T, atol=1e-4)


def test_the_text_tower_knows_words_but_no_order_and_no_length():
    net = untrained()
    same = net.text(tokens(["a thin upright three", "three upright thin a"]))
    assert torch.allclose(same[0], same[1], atol=1e-6)
    longer = torch.cat([tokens(["a three"]), torch.zeros(1, 4, dtype=torch.int64)], 1)
    assert torch.allclose(net.text(longer), net.text(tokens(["a three"])))
    left, right = net.text(tokens(["a three leaning left", "a three leaning right"]))
    assert not torch.allclose(left, right, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda net, x, said: net.image(x[0]), ValueError, r"x is .*shape \(B, 1, 28, 28\)"),
        (lambda net, x, said: net.text(said.float()), TypeError, "tokens is .*int64"),
        (lambda net, x, said: net.text(said[0]), ValueError, r"tokens is .*shape \(m, L\)"),
        (lambda net, x, said: net.text(said + len(WORDS)), ValueError, f"values from 0 to {len(WORDS) - 1}"),
        (lambda net, x, said: net.cosine(x, said), ValueError, "tokens is .*10 captions, one an image"),
        (lambda net, x, said: JointEmbedding(1), ValueError, "words is 1"),
    ],
)
def test_towers_refuse_what_does_not_fit(call, error, named):
    with pytest.raises(error, match=named):
        call(untrained(), data.one_each(), tokens(["a three", "a four"]))


def of_logits(logits):
    return lambda x, tokens: logits


def test_the_loss_asks_both_ways():
    x, said = torch.full((2, 1, 4, 4), -1.0), tokens(["a three", "a four"])
    found = Contrast()(of_logits(torch.tensor([[3.0, 1.0], [0.0, 0.0]])), (x, said), seeded()).each
    caption_of_image = torch.tensor([math.log(1 + math.exp(-2)), math.log(2)])
    image_of_caption = torch.tensor([math.log(1 + math.exp(-3)), math.log(1 + math.exp(1))])
    assert torch.allclose(found, (caption_of_image + image_of_caption) / 2)


def test_the_loss_is_least_at_the_log_of_how_much_more_often_the_two_go_together():
    """Though most batches of 32 hold each caption many times, which asks a picture for one of several right answers."""
    joint = torch.tensor([[0.3, 0.1], [0.05, 0.25], [0.1, 0.2]])
    expected = (joint / (joint.sum(1, keepdim=True) * joint.sum(0))).log()
    table, generator = torch.zeros(3, 2, requires_grad=True), seeded()
    optimizer = torch.optim.Adam([table], lr=0.05)
    averaged = torch.zeros(3, 2)
    for step in range(1500):
        drawn = torch.multinomial(joint.flatten(), 32, replacement=True, generator=generator)
        logits = table[drawn // 2][:, drawn % 2]
        losses = Contrast(shift=0)(of_logits(logits), (torch.zeros(32, 1, 1, 1), None), generator)
        optimizer.zero_grad()
        losses.each.mean().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 1500)
        averaged += table.detach() / 500 * (step >= 1000)
    assert torch.allclose(averaged - averaged.mean(), expected - expected.mean(), atol=0.1)


def test_two_towers_learn_digits_from_words():
    torch.manual_seed(0)
    recipe = Recipe(steps=80, batch_size=64, learning_rate=1e-2, warmup=10, ema=0.9)
    net = train(Trainer(JointEmbedding(len(WORDS)), Contrast(), captioned(500), recipe))
    x, y = (part[:300] for part in data.digits("test"))
    with torch.no_grad():
        read = net(x, tokens([f"a {word}" for word in captions.DIGITS[:10]])).argmax(1)
    assert (read == y).double().mean() > 0.4  # chance is 0.1


def test_digits_without_captions_are_refused_before_training():
    with pytest.raises(TypeError, match=r"batches is .*captions\.Captioned"):
        Trainer(untrained(), Contrast(), Samples(*data.digits("test")), Recipe())


# --- The score, by the shipped network, on the test digits, which it has not seen


@pytest.fixture(scope="module")
def shipped():
    """The network, test digits, their attributes, and w, which makes them score 1 with their own captions."""
    net, card = weights.load("embedding")
    x, y = data.digits("test")
    return net, x, captions.attributes(x, y), 1 / card["metrics"]["cosine with the own caption"]


def said_otherwise(own, k, generator):
    """Attributes whose k-th is another than in `own`."""
    count, changed = int(UNSAID[k]), own.clone()
    changed[:, k] = (own[:, k] + torch.randint(1, count, (len(own),), generator=generator)) % count
    return changed


def test_the_score_of_test_digits_with_their_own_captions_is_one(shipped):
    net, x, own, w = shipped
    found = captions.score(net, x, write(own), w)
    assert found.rescaled == pytest.approx(1, abs=0.01)
    assert found.cosine == pytest.approx(net.cosine(x[:500], tokens(write(own[:500]))).mean().item(), abs=0.02)


@pytest.mark.parametrize("k", [0, 1, 2], ids=["digit", "thickness", "slant"])
def test_the_score_sees_one_wrong_word(shipped, k):
    net, x, own, w = shipped
    assert captions.score(net, x[:500], write(said_otherwise(own[:500], k, seeded())), w).rescaled < 0.75


def test_the_score_sees_strong_noise_and_not_a_little(shipped):
    net, x, own, w = shipped
    eps = torch.randn(500, 1, 28, 28, generator=seeded())
    little, strong = ((x[:500] + s * eps).clamp(-1, 1) for s in (0.1, 0.5))
    right = captions.score(net, x[:500], write(own[:500]), w).rescaled
    assert captions.score(net, little, write(own[:500]), w).rescaled == pytest.approx(right, abs=0.02)
    assert captions.score(net, strong, write(own[:500]), w).rescaled < 0.7


def test_the_score_is_blind_to_copies_and_to_one_picture_a_caption(shipped):
    net, x, own, w = shipped
    train, label = (part[:2000] for part in data.digits("train"))
    copied = captions.attributes(train, label)
    right = captions.score(net, x, write(own), w).rescaled
    assert captions.score(net, train, write(copied), w).rescaled > right - 0.02
    with torch.no_grad():
        fit = in_batches(net.image, train) @ net.text(tokens(write(every()))).T
    best = fit.argmax(0)[own @ torch.tensor([9, 3, 1])]
    assert captions.score(net, train[best], write(own), w).rescaled > right + 0.05


def test_a_caption_that_says_more_lies_closer(shipped):
    net, x, own, w = shipped
    less = own.clone()
    less[:, 1:] = UNSAID[1:]
    scores = [captions.score(net, x[:500], write(said[:500]), w).rescaled for said in (less, own)]
    assert scores[0] < scores[1] - 0.1


def test_gradients_climb_above_every_real_digit_though_the_judge_may_read_what_was_there_before(shipped):
    """So the score is no judge of what was made by its own gradients, and a judge of digits may disagree with it."""
    net, digits, *_ = shipped
    x, said = data.one_each()[3:4], tokens(["a bold seven leaning left"])
    with torch.no_grad():
        start, most = net.cosine(x, said).item(), (in_batches(net.image, digits) @ net.text(said).T).max().item()
    for _ in range(40):
        x.requires_grad_()
        (slope,) = torch.autograd.grad(net.cosine(x, said).sum(), x)
        assert slope.isfinite().all()
        assert slope.norm() > 0
        x = (x + 0.5 * slope / slope.norm()).clamp(-1, 1).detach()
    assert start < 0.4
    assert net.cosine(x, said).item() > most + 0.01
    assert weights.load("judge")[0](x).argmax().item() == 3


def test_unequally_many_captions_and_images_in_0_to_1_are_not_scored(shipped):
    net, x, own, w = shipped
    with pytest.raises(ValueError, match=r"texts is .*10 rows"):
        captions.score(net, x[:10], write(own[:9]), w)
    with pytest.raises(ValueError, match=r"x is .*values from -1 to 1"):
        captions.score(net, x[:10] / 2 + 0.5, write(own[:10]), w)
