"""The plots of the report, each a matplotlib figure of one run, and their way into HTML."""

import io
import re
import warnings

import matplotlib
import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TRAIN, EVALUATE, GREY = "#0072b2", "#d55e00", "#8a8f98"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b4fa3", "#5a5a5a",
         "#a6761d", "#b3003c", "#66a61e", "#1b4f72")
PHASES = {"seconds_train": ("training", "#0072b2"), "seconds_aggregate": ("sum", "#e69f00"),
          "seconds_evaluate": ("evaluation", "#009e73"), "seconds_write": ("writing", "#cc79a7"),
          "other": ("other", "#c9ccd1")}
MOST_BARS = 80  # with more rounds, bars become an area
MOST_LABELLED_CLIENTS = 30

_STYLE = {
    "axes.edgecolor": "#b8bcc4", "axes.grid": True, "axes.axisbelow": True,
    "axes.labelcolor": "#333",
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlelocation": "left",
    "figure.constrained_layout.use": True, "font.size": 10, "grid.color": "#e6e8eb",
    "legend.frameon": False, "legend.fontsize": 9, "svg.fonttype": "none", "svg.hashsalt": "fedit",
    "text.parse_math": False, "xtick.color": "#555", "ytick.color": "#555",
}


def to_svg(plot, run):
    """The drawing as an <svg> element to stand within a page. Text stays text, so that a browser
    finds letters that matplotlib's own font does not have."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        empty = {"Creator": None, "Date": None, "Format": None, "Type": None}
        plot(run).savefig(buffer, format="svg", metadata=empty)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows them
    return svg[svg.index("<svg"):]


def _axes(width=9.0, height=3.6, **labels):
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.set(**labels)
    return figure, axes


def _round_axis(axes):
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def losses(run):
    figure, axes = _axes(ylabel="loss (nats a token)")
    for column, label, colour in (("train_loss", "training, mean of the clients", TRAIN),
                                  ("eval_loss", "evaluation, held-out records", EVALUATE)):
        known = run.rounds.dropna(subset=[column])
        if len(known):
            axes.plot(known["round"], known[column], color=colour, marker="o", linewidth=2,
                      markersize=4 if len(known) < 60 else 0, label=label)
    _round_axis(axes)
    axes.legend(loc="upper right")
    return figure


def category_losses(run):
    """Evaluation loss of each category by round."""
    figure, axes = _axes(ylabel="evaluation loss (nats a token)")
    parts = run.evaluation[run.evaluation["category"] != "all"].groupby("category", sort=False)
    for i, (category, rows) in enumerate(parts):
        axes.plot(rows["round"], rows["loss"], color=LINES[i % len(LINES)], marker="o",
                  markersize=3, linestyle="-" if i < len(LINES) else "--", label=category)
    _round_axis(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def client_losses(run):
    """Last loss of each client by round: a line a client, or the spread where they are many."""
    figure, axes = _axes(ylabel="loss at the end of the round\n(nats a token)")
    trained = run.clients.dropna(subset=["loss_last"])
    clients = sorted(trained["client"].unique())
    if len(clients) <= len(LINES):
        for colour, client in zip(LINES, clients):
            rows = trained[trained["client"] == client].sort_values("round")
            axes.plot(rows["round"], rows["loss_last"], color=colour, marker="o", markersize=4,
                      linewidth=1.2, label=f"client {client}")
    else:
        axes.scatter(trained["round"], trained["loss_last"], s=8, color=GREY, alpha=0.35,
                     linewidths=0, rasterized=True, label="a client")
        spread = trained.groupby("round")["loss_last"].quantile([0.1, 0.5, 0.9]).unstack()
        axes.fill_between(spread.index, spread[0.1], spread[0.9], color=TRAIN, alpha=0.18,
                          linewidth=0, label="10 % to 90 %")
        axes.plot(spread.index, spread[0.5], color=TRAIN, linewidth=2, label="median")
    rejected = trained[trained["rejected"] != 0]
    if len(rejected):
        axes.scatter(rejected["round"], rejected["loss_last"], marker="x", s=70, color="#b3003c",
                     zorder=3, label="rejected update")
    _round_axis(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def partition(run):
    """Client x category: the number of records."""
    table = run.partition
    height = min(12.0, max(2.4, 1.6 + 0.28 * len(table)))
    figure, axes = _axes(height=height, ylabel="client")
    image = axes.imshow(table.to_numpy(), aspect="auto", cmap="YlGnBu", vmin=0,
                        interpolation="nearest")
    axes.grid(False)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=30, ha="right")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=25, integer=True, min_n_ticks=1))
    axes.set_ylim(len(table) - 0.5, -0.5)
    if len(table) <= MOST_LABELLED_CLIENTS:
        middle = table.to_numpy().max() / 2
        for (client, category), count in numpy.ndenumerate(table.to_numpy()):
            axes.text(category, client, str(count), ha="center", va="center", fontsize=8,
                      color="white" if count > middle else "#333")
    figure.colorbar(image, ax=axes, label="records", pad=0.02)
    return figure


def client_skills(run):
    """Client x category: the loss of the last evaluation, each client with its own adapter."""
    rows = run.client_evaluation
    rows = rows[(rows["round"] == rows["round"].max()) & (rows["category"] != "all")]
    table = rows.pivot(index="client", columns="category", values="loss")
    figure, axes = _axes(height=min(12.0, max(2.4, 1.6 + 0.28 * len(table))), ylabel="client")
    image = axes.imshow(table.to_numpy(), aspect="auto", cmap="YlGnBu", interpolation="nearest")
    axes.grid(False)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=30, ha="right")
    axes.set_yticks(range(len(table)), table.index)
    if len(table) <= MOST_LABELLED_CLIENTS:
        middle = (numpy.nanmin(table.to_numpy()) + numpy.nanmax(table.to_numpy())) / 2
        for (client, category), loss in numpy.ndenumerate(table.to_numpy()):
            axes.text(category, client, f"{loss:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if loss > middle else "#333")
    figure.colorbar(image, ax=axes, label="loss (nats a token)", pad=0.02)
    return figure


def phases(run):
    """Seconds of each phase, stacked, by round."""
    rounds = run.rounds.fillna({name: 0.0 for name in run.rounds if name.startswith("seconds_")})
    shares = rounds[[name for name in PHASES if name in rounds]]
    other = (rounds["seconds_total"] - shares.sum(axis=1)).clip(lower=0.0)
    shares = shares.assign(other=other)
    figure, axes = _axes(ylabel="seconds")
    if len(rounds) > MOST_BARS:
        axes.stackplot(rounds["round"], shares.T.to_numpy(),
                       labels=[PHASES[name][0] for name in shares],
                       colors=[PHASES[name][1] for name in shares])
    else:
        bottom = numpy.zeros(len(rounds))
        for name, seconds in shares.items():
            label, colour = PHASES[name]
            axes.bar(rounds["round"], seconds, bottom=bottom, color=colour, label=label, width=0.75)
            bottom += seconds.to_numpy()
    axes.grid(False, axis="x")
    _round_axis(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
    return figure
