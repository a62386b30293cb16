"""Lesson 12's deeper part: its pictures, what its questions claim, its numbers beside those of papers, its own code."""

import ast
import math

import nbformat
import pytest
import torch
from torch.nn import functional as F

from lessons_src import measurements
from lessons_src.latent import gaussian_kl
from lessons_src.lessons.lesson_12 import deeper, rivals
from lessons_src.make.pages import NOTEBOOKS
from lessons_src.scenes import HUES, combinations, paint, tokens, trained
from lessons_src.show import plots


@pytest.mark.parametrize("show", [name for name in vars(deeper) if name.startswith("show_")])
def test_a_picture_says_in_finite_numbers_what_it_shows(show, monkeypatch):
    told = []
    monkeypatch.setattr(plots, "show", lambda fig, text: told.append(text))
    getattr(deeper, show)()
    assert len(told) == 1
    assert "nan" not in told[0]


def cells():
    notebook = nbformat.read(NOTEBOOKS / "deeper" / "12_latent_diffusion.ipynb", as_version=4)
    return {cell.id: cell.source for cell in notebook.cells}


# --- The autoencoder, and KL


def test_a_latent_place_is_a_place_of_the_picture():
    seen, changed = deeper.reach()
    assert 4 < seen < 24
    assert 4 < changed < 24


def test_layers_have_all_parameters():
    found = deeper.layers()
    assert sum(int(n.replace(",", "")) for n in found["parameters"]) == sum(
        p.numel() for p in deeper.codec().parameters()
    )
    assert found["leaves"][4] == "8 × 8 × 8", "mean and log-variance of four channels"
    assert found["leaves"][-1] == "3 × 32 × 32"


def test_three_lines_of_kl():
    m, s = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    own, standard = torch.distributions.Normal(m, s), torch.distributions.Normal(0.0, 1.0)
    p = own.log_prob(z).exp()
    for mean, wanted in (
        ((p * (own.log_prob(z) - standard.log_prob(z))), gaussian_kl(m, 2 * s.log())),
        (p * own.log_prob(z), -s.log() - 0.5 - math.log(2 * math.pi) / 2),
        (p * standard.log_prob(z), -(m**2 + s**2) / 2 - math.log(2 * math.pi) / 2),
    ):
        torch.testing.assert_close(torch.trapezoid(mean, z), wanted)


def test_weight_of_kl():
    """Channels fall silent; a stronger KL says less, and errs more."""
    rows = sorted(measurements.load("rates"), key=lambda row: row["kl"])
    nats, errors, silent = ([row[key] for row in rows] for key in ("nats", "error", "silent"))
    assert nats == sorted(nats, reverse=True)
    assert errors == sorted(errors)
    assert silent[0] == 0
    assert silent[-1] > 0
    assert rows[-1]["kl"] == 1000 * rows[0]["kl"]


# --- Scale and side: beside the papers' numbers, recomputed in float64


@pytest.mark.parametrize(
    ("side", "shift", "snr"),
    [
        (64, 0.0, 1.0),
        (128, -1.3862943611198906, 0.25),
        (256, -2.772588722239781, 0.0625),
        (512, -4.1588830833596715, 0.015625),
        (1024, -5.545177444479562, 0.00390625),
    ],
)
def test_shifts_with_the_side(side, shift, snr):
    assert deeper.shift(side) == pytest.approx(shift, abs=1e-14)
    assert math.exp(deeper.shift(side)) == pytest.approx(snr, rel=1e-14)


def test_the_shift_is_that_of_a_scale():
    ab = deeper.AB[1:]
    k = 64 / 256
    narrow = (k**2 * ab / (1 - ab)).log() - (ab / (1 - ab)).log()
    torch.testing.assert_close(narrow, torch.full_like(ab, deeper.shift(256)))


def test_blocks_of_noise_have_less_noise():
    """More noise survives, or less? The answer of "more-noise"."""
    for k in (4, 16):
        assert deeper.averaged_noise(k) == pytest.approx(1, abs=0.05)


def test_what_latents_save_and_what_was_measured():
    assert 512**2 * 3 / (64**2 * 4) == 48
    assert (512 / 64) ** 2 == 64
    assert (256 / 64) ** 2 == 16
    found = {}
    exec(cells()["saved"].split("plots.table")[0], found)
    assert found["saved"](512, 3, 8, 4) == (48, 64)
    assert found["saved"](256, 3, 4, 3)[1] == 16
    assert found["saved"](32, 3, 4, 4) == (12, 16)
    quoted = next(
        node
        for node in ast.parse(cells()["saved"]).body
        if ast.unparse(node).startswith(("pixel, latent", "(pixel, latent"))
    )
    exec(ast.unparse(quoted), found)
    pixel, latent = found["pixel"], found["latent"]
    ratios = [b / a for a, b in zip(pixel[:3], latent[:3], strict=True)] + [pixel[3] / latent[3]]
    assert [round(ratio, 2) for ratio in ratios] == [2.91, 3.73, 4.86, 2.70]
    assert (round(24.74 / 15.95, 2), round(24.74 / 14.99, 2)) == (1.55, 1.65)


# --- The transformer and the U-Net in cells


def test_the_transformer_of_the_cells_is_the_librarys():
    found = {"F": F, "torch": torch, "net": deeper.dit(), "tokens": tokens, "seeded": torch.Generator().manual_seed}
    exec(cells()["block"], found)
    body, words = deeper.dit().body, tokens(["a small red circle", "a large blue star above a small green square"])
    exec(cells()["transformer"].split("\n\n\n")[0], found)
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)), torch.tensor([999.0, 20.0])
    with torch.no_grad():
        torch.testing.assert_close(found["transformer"](body, z, t, words), body(z, t, words), atol=1e-4, rtol=1e-4)


def test_first_to_learn():
    found = deeper.first_gradients()
    first, second, third = ({kind for kind, row in found.items() if row[k]} for k in range(3))
    assert first == {"last layer"}
    assert second == {"last layer", "blocks: modulation", "blocks: cross-attention", "first layer"}
    assert third == set(found)


def test_gates_of_the_first_block_are_the_smallest_and_all_are_wider_at_small_t():
    attention, mlp = deeper.gates()
    assert attention[0].max() < 0.2 * attention[1:].mean()
    assert (attention[:, 0] > attention[:, -1]).all()
    assert (mlp[:, 0] > mlp[:, -1]).all()


def test_operations_that_the_search_did_not_count_are_those_of_attention():
    one = torch.zeros(1, 4, 8, 8), torch.tensor([500])
    dit, unet = (rivals.mflop(net, *one) for net in (deeper.dit(), deeper.unet()))
    assert dit == pytest.approx(unet, rel=0.01), "equal operations"
    assert deeper.searched()["dit-mixed"]["MFLOP"] < 0.93 * dit
    assert deeper.searched()["unet-mixed"]["MFLOP"] == pytest.approx(unet, rel=0.01)


# --- Maps and edits


def test_which_words_point():
    found = deeper.pointing(300)
    places = list(deeper.WORD_PLACES)
    for layer in ("DiT, block 2", "DiT, block 3", "DiT, block 4", "U-Net, down", "U-Net, up"):
        row = dict(zip(places, found[layer], strict=True))
        assert row["hue"] > 0.97
        assert row["a"] < 0.2
    assert found["DiT, block 3"][places.index("shape")] > 0.95
    assert 0.5 < found["DiT, block 3"][places.index("size")] < 0.85
    for layer in ("DiT, block 1", "U-Net, middle"):
        assert max(found[layer]) < 0.5


def test_a_changed_word_is_another_one_and_leaves_the_others():
    asked = rivals.scenes(50, 0)
    for word in rivals.WORDS:
        other = rivals.changed(asked, word)
        assert (getattr(other, word)[:, 0] != getattr(asked, word)[:, 0]).all()
        assert all((getattr(other, part) == getattr(asked, part)).all() for part in rivals.WORDS if part != word)
        assert (other.hue[:, 0] < len(HUES)).all()
        assert (getattr(other, word)[:, 1] < 0).all(), "there still is no second object"


@torch.no_grad()
def test_kept_maps_of_the_same_caption_change_nothing():
    asked, maps = rivals.scenes(3, 0), []
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before = rivals.drawn(asked, noise, maps, None)
    assert len(maps) % (12 * len(deeper.dit().body.blocks)) == 0
    torch.testing.assert_close(rivals.drawn(asked, noise, maps, 1.0), before, atol=1e-3, rtol=0)


def test_keep_maps():
    """Size is obeyed the least, one time in four; half the way is enough for the object to stay, and to obey."""
    found = {(row["word"], row["kept"]): row for row in measurements.load("edits")}
    obeyed = {word: found[word, 1.0]["changed"] / found[word, 1.0]["n"] for word in rivals.WORDS}
    assert min(obeyed, key=obeyed.get) == "size"
    assert obeyed["size"] == pytest.approx(0.25, abs=0.05)
    assert obeyed["hue"] > 0.9
    assert obeyed["shape"] > 0.8
    assert round(found["hue", 0.0]["moved"], 1) == 6.9
    assert round(found["hue", 0.5]["moved"], 1) == 0.3
    assert all(found[word, 0.5]["right"] / found[word, 0.5]["n"] > 0.95 for word in rivals.WORDS)
    assert all(found[word, 0.5]["moved"] < found[word, 0.0]["moved"] for word in rivals.WORDS)


def test_the_stored_edits_are_what_is_drawn(monkeypatch):
    monkeypatch.setattr(rivals, "EDITED", 20)
    row = rivals.edited("hue", 0.5)
    assert row["right"] >= 18
    assert row["moved"] < 1


# --- The race


def test_features_are_fixed_and_tell_grain_from_scenes():
    x = paint(rivals.scenes(300, 5))
    grain = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    asked = rivals.scenes(300, 5)
    assert rivals.scored(x, asked)["distance"] < 0.1 * rivals.scored(grain, asked)["distance"]
    assert torch.equal(rivals.features(x), rivals.features(x))


def test_pixels_are_standardised_and_come_back():
    codec, x = rivals.Pixels(), paint(rivals.scenes(500, 6))
    z = codec.encode(x)
    torch.testing.assert_close(codec.decode(z), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(3), atol=0.1, rtol=0)


def test_nobody_is_trained_on_what_is_held():
    assert trained(rivals.scenes(500, 2)).all()
    assert len(rivals.all_scenes(100, 0)) == 100
    assert not trained(rivals.all_scenes(500, 0)).all(), "autoencoders see everything"
    assert set(combinations()) >= {"one seen"}


def test_equal_seconds():
    """Latents about 90 %, pixels by 4 × 4 none; each had the same time, give or take a tenth."""
    for arm, rows in deeper.arms().items():
        assert len(rows) == len(rivals.SEEDS)
        for row in rows:
            assert row["looks"][-1]["seconds"] == pytest.approx(rivals.SECONDS, rel=0.15)
            assert len(row["looks"]) == rivals.LOOKS
            share = row["looks"][-1]["shown"]["all"] / row["n"]
            if arm == "latents":
                assert 0.8 < share < 1
            if arm == "pixels by 4 × 4":
                assert share == 0
                assert row["looks"][-1]["shown"]["hue"] > 0.7 * row["n"], "blobs of the right hue"
    assert (
        floor_of("scenes")
        < floor_of("reconstructed")
        < min(row["looks"][-1]["distance"] for row in deeper.arms()["latents"])
    )
    latents, coarse = (rivals.mflop(rivals.network(a), *_one(a)) for a in ("latents", "pixels by 4 × 4"))
    assert coarse / latents < 1.2


def floor_of(name):
    return deeper.floor(name)["distance"]


def test_grain_of_coarse_patches_has_to_stay():
    """32 channels at 64 places carry fewer numbers than the noise has."""
    _, patch = rivals.ARMS["pixels by 4 × 4"]
    places = (32 // patch) ** 2
    assert rivals.network("pixels by 4 × 4").body.enter.out_channels * places == 2048
    assert 2048 / math.prod(rivals.PIXELS) == pytest.approx(2 / 3)


def _one(arm):
    return torch.zeros(1, *rivals.ARMS[arm][0]), torch.tensor([500])
