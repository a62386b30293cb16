"""The one look of all pictures: colours that colour-blind readers can tell apart, dashes, and matplotlib's settings."""

# Okabe & Ito (2008), "Color universal design", without yellow, which vanishes on a white page
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

DASHES = ("-", "--", "-.", ":", (0, (6.5, 2)), (0, (2, 1)), "-")
# Lines on a page that may be dark, where black vanishes: colour, dashes, and those in pixels for a browser
LINES = tuple(zip(COLOURS, DASHES, ((), (7, 3), (13, 3, 2, 3), (2, 3), (13, 4), (4, 2)), strict=False))

STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.6",
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "xtick.color": "0.4",
    "ytick.color": "0.4",
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}
