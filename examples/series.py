"""A chaotic series, forecast 50 steps ahead: where a recurrent network is worth it.

    pip install '.[examples]'
    python examples/series.py                                 within seconds
    python examples/series.py --quick --picture series.png

The series is that of Mackey and Glass, a usual benchmark: its change at each step depends on the value 17 steps before,
and not linearly.  It is seen with noise.  A GRU reads 60 values and predicts the one 50 steps after them.  A third is
held out.  Compared with it: a linear regression, the 5 nearest neighbours, the last value.  Nothing was tuned.
"""

import argparse

import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from cyrnn.estimators import SequenceRegressor

READ, AHEAD, DELAY = 60, 50, 17

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="few epochs, for a test")
parser.add_argument("--picture", metavar="PNG", help="draw the loss and the forecasts into this file")
arguments = parser.parse_args()

values = [1.2] * (DELAY + 1)
for _ in range(3500):
    late = values[-1 - DELAY]
    values.append(0.9 * values[-1] + 0.2 * late / (1 + late**10))
values = np.array(values[-3000:])  # what comes before depends on the start
series = (values - values.mean()) / values.std()
seen = series + 0.02 * np.random.default_rng(0).normal(size=len(series))

X, y = np.lib.stride_tricks.sliding_window_view(seen, READ)[:-AHEAD], seen[READ + AHEAD - 1 :]
training, held_out = slice(2000 - READ - AHEAD), slice(2000, None)  # windows of other values
model = SequenceRegressor(
    "gru", 32, epochs=5 if arguments.quick else 20, batch_size=32, learning_rate=0.01, random_state=0, verbose=True
).fit(X[training], y[training])
forecasts = {"network": model.predict(X[held_out])}
for name, other in {"linear": LinearRegression(), "neighbours": KNeighborsRegressor(5)}.items():
    forecasts[name] = other.fit(X[training], y[training]).predict(X[held_out])
forecasts["naive"] = X[held_out, -1]
print(f"root mean square error of {len(y[held_out])} held-out values, in standard deviations of the series:")
for name, found in forecasts.items():
    print(f"{name:12} {np.sqrt(np.mean((found - y[held_out]) ** 2)):.3f}")
if arguments.picture:
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.4, 5.4), layout="constrained", height_ratios=[3, 1.5])
    top.plot(y[held_out][:300], color="0.6", linewidth=3, label="held-out values")
    for name, color, look in (("network", "#0072B2", "-"), ("linear", "#D55E00", "--")):
        top.plot(forecasts[name][:300], look, color=color, label=f"{name}, {AHEAD} steps ahead")
    top.set(xlabel="step", ylabel="value (standard deviations)")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    bottom.plot(range(1, model.n_iter_ + 1), model.history_["loss"], color="#0072B2")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    bottom.set(xlabel="epoch", ylabel="training loss\n(squared error)", ylim=(0, None))
    figure.savefig(arguments.picture, dpi=150)
