"""The end of the course on one page, folded: what you can do, the papers, and where to go on."""

from lessons_src.lessons import all_lessons
from lessons_src.show import plots

ABILITIES = {  # ability: the exercise that shows it
    "write DDIM in two lines": "05 ddim_step",
    "say why its steps may be twenty times as large": "05 ddim_sample",
    "write guidance as a blend": "06 guided",
    "read a front of cost and quality": "09 on_the_front",
}
OBJECTIVES = {  # aim of the lecture: a graded task
    "derive DDIM": "05 ddim_sample",
    "guide, with a classifier and without": "07 guided_eps",
    "tell SDE from ODE": "08 down_drift",
    "choose a schedule": "02 cosine_alpha_bar",
    "sample faster": "09 two_m_step",
}
LABS = {  # lab: the notebook and its heading
    "train a tiny DDPM": "exercises/03#Lab: train it, then cut the wire",
    "train with linear in place of cosine": "deeper/03#One change at a time",
    "draw in twenty steps of DDIM": "exercises/05#6 · Lab: twenty against a thousand",
    "sweep over w": "exercises/06#Lab: the sweep",
    "draw distance against w": "deeper/13#Guidance and steps: a score is a curve",
    "find a dead time embedding": "deeper/03#A dead time embedding",
}


def _link(words: str, folder: str, number: str) -> str:
    (name,) = (lesson.name for lesson in all_lessons() if lesson.number == number)
    return f"[{words}]({folder}/{name}.ipynb)"


def show_practice() -> None:
    """What you can do now, and the place where each thing is done."""
    graded = {**ABILITIES, **OBJECTIVES}
    places = [
        _link(f"exercise {number}, {task}", "exercises", number)
        for number, task in (place.split() for place in graded.values())
    ]
    for place in LABS.values():
        path, heading = place.split("#")
        places.append(_link(heading, *path.split("/")))
    plots.table({"you can": [*graded, *LABS], "where": places}, folded="What you can do now, and where to practise it")


def show_timeline() -> None:
    """Papers of the course by year."""
    papers = {
        "2015": "diffusion, as an idea ([Sohl-Dickstein et al.](https://arxiv.org/abs/1503.03585))",
        "2020": "DDPM, a thousand steps ([Ho et al.](https://arxiv.org/abs/2006.11239)); DDIM, fifty "
        "([Song et al.](https://arxiv.org/abs/2010.02502))",
        "2021": "one SDE for all ([Song et al.](https://arxiv.org/abs/2011.13456)); guidance "
        "([Dhariwal & Nichol](https://arxiv.org/abs/2105.05233), [Ho & Salimans](https://arxiv.org/abs/2207.12598))",
        "2022": "latents ([Rombach et al.](https://arxiv.org/abs/2112.10752)); solvers, twenty steps "
        "([Lu et al.](https://arxiv.org/abs/2206.00927)); students "
        "([Salimans & Ho](https://arxiv.org/abs/2202.00512))",
        "2023": "consistency, one call ([Song et al.](https://arxiv.org/abs/2303.01469))",
    }
    plots.table({"year": list(papers), "what came": list(papers.values())}, folded="The papers, by year")


def show_neighbours() -> None:
    """What lies beside the course, whose order of topics it follows, and code of others."""
    found = {
        "before": "energy-based models ([LeCun et al. 2006](http://yann.lecun.com/exdb/publis/pdf/lecun-06.pdf)), "
        "score matching ([Hyvärinen 2005](https://jmlr.org/papers/v6/hyvarinen05a.html), "
        "[Song & Ermon 2019](https://arxiv.org/abs/1907.05600)): lesson 00's slope is their score",
        "joined": "by one SDE: [lesson 08](08_sde_and_ode.ipynb)",
        "next": "autoregressive models: [PixelCNN](https://arxiv.org/abs/1601.06759), "
        "[WaveNet](https://arxiv.org/abs/1609.03499)",
        "courses": "Berkeley [CS294-158](https://sites.google.com/view/berkeley-cs294-158-sp24/), lecture 6 (Abbeel, "
        "Yan, Frans, Wu); Stanford [CS236](https://deepgenerativemodels.github.io/), lecture 16 (Ermon)",
        "code": "[DDIM](https://github.com/ermongroup/ddim), [diffusers](https://github.com/huggingface/diffusers), "
        "[Stable Diffusion](https://github.com/CompVis/stable-diffusion)",
    }
    plots.table(
        {"": list(found), "where to go on": list(found.values())},
        "The two university courses and their references marked out this ground. The prose here is our own.",
        folded="Where to go on: neighbours, courses, code",
    )
