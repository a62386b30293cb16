"""The one look of all pictures: colours that colour-blind readers can tell apart, dashes, and matplotlib's settings."""

# Okabe & Ito (2008), "Color universal design", without yellow, which vanishes on a white page, and black, on a dark
# one; their blue, #0072B2, is a little lighter here, so that it can be read on either
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#1F7FC0", "#D55E00", "#CC79A7"
INK = "#777777"  # text and reference lines: contrast 4.5 on white, 4.2 on JupyterLab's dark page
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)

DASHES = ("-", "--", "-.", ":", (0, (6.5, 2)), (0, (2, 1)), "-")
MARKS = "os^D"  # shapes of points, the second cue beside colour
# Lines: colour, dashes, and those in pixels for a browser
LINES = tuple(zip(COLOURS, DASHES, ((), (7, 3), (13, 3, 2, 3), (2, 3), (13, 4), (4, 2)), strict=False))

STYLE = {
    "font.size": 12.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.6",
    "axes.facecolor": "none",
    "axes.titlesize": 12.5,
    "legend.fontsize": 11.5,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "axes.grid": True,
    "grid.color": "0.5",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",  # pictures lie on pages light or dark
    "savefig.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
    "figure.constrained_layout.use": True,
}
