"""A keyword in a stream of words: a GRU reads spectrograms and detects when one word has just been said.

    pip install '.[examples]'
    python examples/keywords.py                                        about half a minute on one thread
    python examples/keywords.py --quick --picture keywords.png         a small network, few clips; what the gates do
    python examples/keywords.py --reset after                          the other form of the GRU (docs/gru.md)

The clips are synthetic, from a seeded generator: a word is a path of two resonances through 16 bands of frequency, as
in speech, said faster or slower, louder or softer, by a higher or a lower voice, in noise.  All words consist of the
same three sounds; the others are the keyword's sounds in another order, or with one repeated, so that the network must
remember what it has heard.  For 10 frames after the keyword the label is 1, else 0 (the trigger word of the course).

Every batch is new.  What is printed at the end is of clips from another seed: how many keywords were detected
(a probability above one half in those 10 frames), and how many of the other words were mistaken for it.
"""

import argparse
import time

import numpy as np
from tqdm import tqdm

import cyrnn

BANDS, FRAMES, AFTER = 16, 120, 10
SOUNDS = {"a": (5.0, 8.0), "i": (2.0, 13.0), "u": (2.5, 5.5)}  # where the two resonances are, in bands
KEYWORD, OTHERS = "aiu", ("aui", "iau", "iua", "uai", "uia", "aii", "auu", "iiu", "aau")


def word(rng, sounds):
    """Energy of a word (BANDS, frames): the resonances glide from sound to sound."""
    frames, voice = rng.integers(9, 24), rng.normal(0, 1.0)
    at = np.linspace(0, len(sounds) - 1, frames)
    paths = [np.interp(at, range(len(sounds)), [SOUNDS[sound][k] for sound in sounds]) + voice for k in (0, 1)]
    bands = np.arange(BANDS)[:, None]
    energy = sum(np.exp(-((bands - path) ** 2) / 1.5) for path in paths)
    return energy * np.sin(np.linspace(0.3, np.pi - 0.3, frames)) * np.exp(rng.normal(0, 0.6))


def clips(rng, m):
    """x (BANDS, m, FRAMES), the logarithm of the energy; labels (m, FRAMES); the words: (example, end, whether it)."""
    energy = 0.25 * rng.exponential(size=(BANDS, m, FRAMES))
    labels, said = np.zeros((m, FRAMES), int), []
    for j in range(m):
        t = rng.integers(0, 15)
        while True:
            it = rng.random() < 0.4
            spoken = word(rng, KEYWORD if it else rng.choice(OTHERS))
            end = t + spoken.shape[1]
            if end + AFTER > FRAMES:
                break
            energy[:, j, t:end] += spoken
            labels[j, end : end + AFTER] = it
            said.append((j, end, it))
            t = end + AFTER + rng.integers(0, 15)
    return np.log(energy + 0.02) / 2 + 1, labels, said


def train(parameters, moments, t, x, labels, learning_rate):
    """One step of Adam on a batch; its loss."""
    a, y, caches = cyrnn.gru_forward(x, None, parameters)
    loss, dz = cyrnn.cross_entropy(y, labels)
    gradients = cyrnn.output_backward(dz, a, parameters)
    gradients |= cyrnn.gru_backward(gradients["da"], caches)
    gradients, _ = cyrnn.clip_gradients(gradients, norm=1.0)
    cyrnn.update_parameters_with_adam(parameters, gradients, *moments, t, learning_rate)
    return loss


def heard(parameters, x, said):
    """Shares of the keywords that were detected, and of the other words that were mistaken for it."""
    _, y, _ = cyrnn.gru_forward(x, None, parameters, cache=False)
    found = {True: [], False: []}
    for j, end, it in said:
        found[it].append(y[1, j, end : end + AFTER].max() > 0.5)
    return np.mean(found[True]), np.mean(found[False])


def picture(path, losses, parameters, x, labels):
    """Loss; below, one clip: input, probability, update gate, reset gate and hidden state."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    _, y, (steps, _) = cyrnn.gru_forward(x, None, parameters)
    # A step of the caches is a tuple: a_next, a_prev, cct, ut, rt, hct, xt, parameters.
    ut, rt, a = (np.stack([step[k][:, 0] for step in steps], axis=1) for k in (3, 4, 0))
    order = np.argsort(ut.mean(axis=1))
    figure, axes = plt.subplots(6, 1, figsize=(7.4, 9.6), layout="constrained")
    axes[0].plot(1 + np.arange(len(losses)), losses, color="#0072B2", linewidth=0.8)
    axes[0].set(xlabel="update", ylabel="training\nloss (nats)", ylim=(0, None))
    axes[1].imshow(x[:, 0], aspect="auto", origin="lower", cmap="cividis", interpolation="nearest")
    axes[1].set(title="a clip: energy in 16 bands", ylabel="band", xticklabels=[])
    axes[2].plot(labels[0], color="0.6", label="label")
    axes[2].plot(y[1, 0], color="#D55E00", label="probability of the keyword")
    axes[2].set(xlim=(-0.5, labels.shape[1] - 0.5), ylim=(-0.05, 1.05), xticklabels=[])
    axes[2].legend(frameon=False, loc="center left")
    for axis, (name, values) in zip(
        axes[3:], {"update gate": ut, "reset gate": rt, "hidden state": a}.items(), strict=True
    ):
        look = {"cmap": "RdBu_r", "vmin": -1} if values is a else {"cmap": "cividis", "vmin": 0}
        shown = axis.imshow(values[order], aspect="auto", interpolation="nearest", vmax=1, **look)
        axis.set(title=name, ylabel="unit", yticks=[], **{} if values is a else {"xticklabels": []})
        figure.colorbar(shown, ax=axis, pad=0.01)
    axes[-1].set_xlabel("frame")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller network and few clips, for a test")
    parser.add_argument("--reset", choices=("before", "after"), default="before", help="the form of the GRU")
    parser.add_argument("--picture", metavar="PNG", help="draw the loss, a clip and the gates into this file")
    arguments = parser.parse_args()
    n_a, m, updates, learning_rate = (24, 16, 250, 0.02) if arguments.quick else (48, 32, 1000, 0.01)

    rng = np.random.default_rng(0)
    parameters = cyrnn.initialize_parameters("gru", BANDS, n_a, 2, rng, reset=arguments.reset)
    moments, losses, begin = cyrnn.initialize_adam(parameters), [], time.perf_counter()
    x_test, labels_test, said = clips(np.random.default_rng(1), 200)
    with tqdm(range(updates), unit="update") as bar:
        for k in bar:
            x, labels, _ = clips(rng, m)
            losses.append(train(parameters, moments, k + 1, x, labels, learning_rate * (1 - k / updates)))
            if k % 10 == 9:
                speed = (k + 1) * m / (time.perf_counter() - begin)
                bar.set_postfix_str(f"loss {np.mean(losses[-50:]):.4f}, {speed:,.0f} clips/s")

    it, others = heard(parameters, x_test, said)
    count = sum(word[2] for word in said)
    print(f"{it:.1%} of {count} keywords detected, {others:.1%} of {len(said) - count} other words mistaken for it")
    if arguments.picture:
        picture(arguments.picture, losses, parameters, x_test[:, :1], labels_test[:1])
        print(f"drawn: {arguments.picture}")


if __name__ == "__main__":
    main()
