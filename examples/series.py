"""A real time series: the sunspots of every year since 1700, which statsmodels ships, forecast one year ahead.

    pip install '.[examples]'
    python examples/series.py
    python examples/series.py --quick --picture series.png

A GRU reads 33 years, three cycles, and tells the change to the next one, on the square root of the number, whose
noise is even.  The years of the last quarter are held out, and compared with the naive forecast (next year will be like
this one) and a linear one.  Sizes, epochs and rate were chosen on the last quarter of the other years (`--choose`).
"""

import argparse

import numpy as np
import statsmodels.api as sm

from cyrnn.estimators import SequenceRegressor

YEARS = 33

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="few epochs, for a test")
parser.add_argument("--choose", action="store_true", help="hold out the last quarter of the training years instead")
parser.add_argument("--picture", metavar="PNG", help="draw the loss and the forecast into this file")
arguments = parser.parse_args()

data = sm.datasets.sunspots.load_pandas().data
years, roots = data["YEAR"].to_numpy().astype(int), np.sqrt(data["SUNACTIVITY"].to_numpy())
if arguments.choose:
    years, roots = np.split(years, [len(years) * 3 // 4])[0], np.split(roots, [len(roots) * 3 // 4])[0]
held_out = len(years) * 3 // 4  # the first year that is not trained on
mean, deviation = roots[:held_out].mean(), roots[:held_out].std()

X = np.lib.stride_tricks.sliding_window_view((roots - mean) / deviation, YEARS)[:-1]
y, trained = np.diff(roots)[YEARS - 1 :] / deviation, held_out - YEARS
model = SequenceRegressor(
    "gru", 8, epochs=10 if arguments.quick else 30, batch_size=16, learning_rate=0.005, random_state=0, verbose=True
)
model.fit(X[:trained], y[:trained])

predicted = roots[YEARS - 1 : -1] + deviation * model.predict(X)  # of years[YEARS:]
inputs = np.pad(X[:, -9:], ((0, 0), (0, 1)), constant_values=1)  # the linear forecast reads 9 years
linear = roots[YEARS - 1 : -1] + deviation * (inputs @ np.linalg.lstsq(inputs[:trained], y[:trained])[0])
forecasts = {"forecast": predicted, "naive forecast": roots[YEARS - 1 : -1], "linear forecast": linear}
print(f"wrong by (root mean square, sunspots), in {len(years) - held_out} held-out years from {years[held_out]}:")
for name, found in forecasts.items():
    print(f"{name:16} {np.sqrt(np.mean((found[trained:] ** 2 - roots[held_out:] ** 2) ** 2)):.1f}")

if arguments.picture:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 4), layout="constrained", width_ratios=[1, 3])
    left.plot(model.history_["loss"])
    right.plot(years[YEARS:], roots[YEARS:] ** 2, color="0.3", label="sunspots")
    right.plot(years[YEARS:], predicted**2, color="C1", label="forecast from the years before")
    right.axvspan(years[held_out], years[-1], alpha=0.1, label="held out")
    right.legend(frameon=False)
    figure.savefig(arguments.picture)
    print(f"drawn: {arguments.picture}")
