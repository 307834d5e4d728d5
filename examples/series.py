"""A real time series: the sunspots of every year since 1700, which statsmodels ships, forecast one year ahead.

    pip install '.[examples]'
    python examples/series.py
    python examples/series.py --quick --picture series.png

One long sequence, read in chunks of 11 years.  The state goes from chunk to chunk (a0 and c0), the gradients do not:
truncated backpropagation through time.  The output is linear and the loss the mean squared error; what is learned is
the change to the next year, on the square root of the number, whose noise is even.  The years of the last quarter are
held out, and compared with the naive forecast (next year will be like this one) and with a linear one.  Sizes, epochs
and rate were chosen on the last quarter of the other years (`--choose`), never on the ones held out.

The network beats the naive forecast by far.  On the years held out, which are livelier than those it has seen, the
linear forecast stays ahead of it: two centuries are few.
"""

import argparse
import time

import numpy as np
import statsmodels.api as sm
from tqdm import tqdm

import cyrnn

CHUNK = 11  # years, about one cycle


def forecast(x, parameters, a0, c0):
    """Change to the next year (1, 1, T_x), the states a and c (n_a, 1, T_x), and the caches."""
    a, _, c, caches = cyrnn.lstm_forward(x, a0, parameters, c0=c0)
    return cyrnn.output_forward(a, parameters), a, c, caches


def train_epoch(x, targets, parameters, moments, t, learning_rate):
    """Go once through the sequence, one update a chunk; the mean loss and the number of updates so far."""
    n_a = len(parameters["bf"])
    a0, c0, losses = np.zeros((n_a, 1)), np.zeros((n_a, 1)), []
    for start in range(0, x.shape[2], CHUNK):
        chunk = np.s_[:, :, start : start + CHUNK]
        z, a, c, caches = forecast(x[chunk], parameters, a0, c0)
        loss, dz = cyrnn.mean_squared_error(z, targets[chunk])
        gradients = cyrnn.output_backward(dz, a, parameters)
        gradients |= cyrnn.lstm_backward(gradients["da"], caches)
        gradients, _ = cyrnn.clip_gradients(gradients, norm=1.0)
        t += 1
        cyrnn.update_parameters_with_adam(parameters, gradients, *moments, t, learning_rate)
        a0, c0 = a[:, :, -1], c[:, :, -1]  # carried; their gradient stops here
        losses.append(loss)
    return np.mean(losses), t


def linear_forecast(roots, held_out, before=9):
    """Held-out roots by least squares from the `before` years before, fitted to the training years."""
    windows = np.lib.stride_tricks.sliding_window_view(roots, before)[:-1]
    inputs, targets, trained = np.pad(windows, ((0, 0), (0, 1)), constant_values=1), roots[before:], held_out - before
    weights, *_ = np.linalg.lstsq(inputs[:trained], targets[:trained])
    return inputs[trained:] @ weights


def picture(path, years, roots, predicted, held_out, losses, caches):
    """Loss, the forecast, and the gates over the three centuries."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    steps, _ = caches
    # A step of the caches is the notebook's tuple: a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters.
    ft, it, ot, c = (np.hstack([step[k] for step in steps]) for k in (4, 5, 7, 1))
    order = np.argsort(ft.mean(axis=1))
    figure, axes = plt.subplots(6, 1, figsize=(13, 12), layout="constrained", height_ratios=[1.2, 1.8, 1, 1, 1, 1])
    axes[0].semilogy(1 + np.arange(len(losses)), losses)
    axes[0].set(title="mean squared error of the training years", xlabel="epoch")
    axes[1].plot(years, roots**2, color="0.3", linewidth=1, label="sunspots")
    axes[1].plot(years, predicted**2, color="C1", linewidth=1, label="forecast from the year before")
    axes[1].axvspan(years[held_out], years[-1], color="C0", alpha=0.1, label="held out")
    axes[1].set(title="sunspots of a year", xlim=(years[0], years[-1]))
    axes[1].legend(frameon=False, ncols=3, loc="upper left")
    maps = {"forget gate": ft, "update gate": it, "output gate": ot, "memory cell": c}
    for axis, (name, values) in zip(axes[2:], maps.items(), strict=True):
        most = np.abs(c).max()
        look = {"cmap": "RdBu_r", "vmin": -most, "vmax": most} if values is c else {"vmin": 0, "vmax": 1}
        extent = (years[0] - 0.5, years[-1] + 0.5, 0, len(values))
        shown = axis.imshow(values[order], aspect="auto", interpolation="nearest", extent=extent, **look)
        axis.set(title=name, ylabel="unit", yticks=[])
        figure.colorbar(shown, ax=axis, pad=0.01)
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few epochs, for a test")
    parser.add_argument("--choose", action="store_true", help="hold out the last quarter of the training years instead")
    parser.add_argument("--picture", metavar="PNG", help="draw the loss, the forecast and the gates into this file")
    arguments = parser.parse_args()
    n_a, epochs, learning_rate = (16, 15, 0.005) if arguments.quick else (16, 30, 0.005)

    data = sm.datasets.sunspots.load_pandas().data
    years, roots = data["YEAR"].to_numpy().astype(int), np.sqrt(data["SUNACTIVITY"].to_numpy())
    held_out = len(years) * 3 // 4  # the first year that is not trained on
    if arguments.choose:
        years, roots, held_out = years[:held_out], roots[:held_out], held_out * 3 // 4
    mean, deviation = roots[:held_out].mean(), roots[:held_out].std()
    scaled = (roots - mean) / deviation
    x, targets = scaled[None, None, :-1], np.diff(scaled)[None, None]

    parameters = cyrnn.initialize_parameters("lstm", n_x=1, n_a=n_a, n_y=1, rng=np.random.default_rng(0))
    moments, t, losses, begin = cyrnn.initialize_adam(parameters), 0, [], time.perf_counter()
    with tqdm(range(epochs), unit="epoch") as bar:
        for k in bar:
            trained = np.s_[:, :, : held_out - 1]
            rate = learning_rate * (1 - k / epochs)
            loss, t = train_epoch(x[trained], targets[trained], parameters, moments, t, rate)
            losses.append(loss)
            speed = (k + 1) * (held_out - 1) / (time.perf_counter() - begin)
            bar.set_postfix_str(f"loss {loss:.4f}, {speed:,.0f} years/s")

    zero = np.zeros((n_a, 1))
    z, _, _, caches = forecast(x, parameters, zero, zero)
    predicted = roots[:-1] + deviation * z[0, 0]  # of years[1:]
    forecasts = {"forecast": predicted[held_out - 1 :], "naive forecast": roots[held_out - 1 : -1]}
    forecasts["linear forecast"] = linear_forecast(roots, held_out)
    print(f"wrong by (root mean square, sunspots), in {len(years) - held_out} held-out years from {years[held_out]}:")
    for name, found in forecasts.items():
        print(f"{name:16} {np.sqrt(np.mean((found**2 - roots[held_out:] ** 2) ** 2)):.1f}")
    if arguments.picture:
        picture(arguments.picture, years[1:], roots[1:], predicted, held_out - 1, losses, caches)
        print(f"drawn: {arguments.picture}")


if __name__ == "__main__":
    main()
