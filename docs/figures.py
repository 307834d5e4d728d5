"""The figures of the measurements, drawn from the tables of the pages: none can differ from its table.

    python docs/figures.py

draws the figure of README.md, docs/static/speed.svg, anew; it is kept, since nothing is drawn where README.md is read.
The build of the site draws the others.
"""

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE / "static" / "speed.svg"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito, for colour-blind readers
MARKERS = "osD^vP"


def table(page):
    """Return the rows of the first table that a benchmark wrote into a page, each a dict from column to text."""
    text = (HERE / page).read_text().split("<!-- benchmark -->\n")[1].split("<!-- end -->")[0]
    lines = text[text.find("|") :].split("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    head = [name or f"column {k}" for k, name in enumerate(head)]
    return [dict(zip(head, row, strict=True)) for row in rows]


def digest(page):
    """Return what tells one table from another: it is written into the figure that is kept."""
    return hashlib.sha256(repr(table(page)).encode()).hexdigest()


def style(k):
    """Return how the k-th line of a figure looks."""
    return {"color": COLOURS[k % 6], "marker": MARKERS[k % 6], "markersize": 4.5, "linewidth": 1.2}


def save(figure, path, description):
    """Write a figure as SVG, with its text as text; the same figure gives the same file."""
    import matplotlib as mpl

    path.parent.mkdir(exist_ok=True)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cyrnn", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Description": description})


def panels(columns, height):
    """Return a figure of panels side by side, with one scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, height), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def speed(path):
    """Draw the speed-up of the LSTM over each other library, by size: the table of speed.md."""
    rows = table("speed.md")
    names = list(rows[0])[5:]
    figure, axes = panels(2, 4.2)
    for axis, what in zip(axes, ("LSTM forward", "LSTM forward + backward"), strict=True):
        mine = [row for row in rows if row["column 1"] == what and row["threads"] == rows[0]["threads"]]
        for k, name in enumerate(names):
            points = [(i, float(row[name])) for i, row in enumerate(mine) if row[name]]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, **style(k))
        axis.axhline(1, color="black", linewidth=1)
        sizes = [row["n_x, n_a, n_y, m, T_x"].split(", ") for row in mine]
        axis.set_xticks(range(len(mine)), [f"{size[1]}\n{size[3]}" for size in sizes])
        axis.set(yscale="log", title=what, xlabel="units\nexamples in a batch")
        axis.grid(axis="y", alpha=0.3)
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].minorticks_off()
    axes[0].set_ylabel("time of the other library / time of cyrnn")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    save(figure, path, f"From the table with SHA-256 {digest('speed.md')}")


def latency(path):
    """Draw the median, 99th and 99.9th percentile of the time of one step, by size: the table of streaming.md."""
    rows = table("streaming.md")
    keys = "column 0", "n_x, n_a, n_y", "column 2"
    kinds, sizes, names = (list(dict.fromkeys(row[key] for row in rows)) for key in keys)
    figure, axes = panels(len(kinds), 4.6)
    for axis, kind in zip(axes, kinds, strict=True):
        for k, name in enumerate(names):
            mine = [row for row in rows if (row["column 0"], row["column 2"]) == (kind, name)]
            middle, high, highest = ([float(row[key]) for row in mine] for key in ("median, us", "99%", "99.9%"))
            at = [sizes.index(row["n_x, n_a, n_y"]) + (k - (len(names) - 1) / 2) * 0.12 for row in mine]
            look = style(k)
            axis.plot(at, middle, label=name, **look)
            axis.vlines(at, middle, highest, color=look["color"], linewidth=1)
            axis.plot(at, high, "_", color=look["color"], markersize=5)
            axis.plot(at, highest, "_", color=look["color"], markersize=5)
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set(yscale="log", title=kind, xlabel="units = inputs = outputs")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("time of one step (us)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    save(figure, path, "Symbols: medians; dashes: the 99th and 99.9th percentile")


def accuracy(path):
    """Draw the largest error of the functions over their range, as benchmarks/accuracy.py measures it."""
    import sys

    import numpy as np

    sys.path.insert(0, str(HERE.parent / "benchmarks"))
    from accuracy import EXACT, errors

    figure, axes = panels(2, 3.4)
    for axis, width in zip(axes, (2, 40), strict=True):
        edges = np.linspace(-width, width, 201)
        x = np.random.default_rng(0).uniform(edges[:-1], edges[1:], (2000, 200))
        for k, name in enumerate(EXACT):
            largest = errors(name, x.ravel()).reshape(x.shape).max(axis=0)
            axis.plot((edges[1:] + edges[:-1]) / 2, largest.astype(float), label=name, color=COLOURS[k], linewidth=1)
        axis.set(xlabel="x", xlim=(-width, width), ylim=(0, 2))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("largest error (ulp)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    save(figure, path, "The largest of 2000 errors in each of 200 parts of the range")


if __name__ == "__main__":
    speed(KEPT)
    print(f"drawn: {KEPT}")
