"""One self-contained HTML page about a run."""

from pathlib import Path

import jinja2
import markupsafe
import pandas

from . import plots

LAST_ROUNDS = 3
MOST_ROWS = 60  # of the table of clients


def render(run):
    """The page as text. It loads nothing, and shows a run of any state."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, count=count, seconds=seconds, size=size)
    last_rounds = run.clients[run.clients["round"] > run.clients["round"].max() - LAST_ROUNDS]
    last_rounds = last_rounds.sort_values(["round", "client"], ascending=[False, True])
    evaluated = run.evaluation[run.evaluation["round"] == run.evaluation["round"].max()]
    return environment.get_template("report.html.j2").render(
        run=run, name=run.path.parent.resolve().name, figures=_key_figures(run),
        drawings=_draw(run), clients=last_rounds.head(MOST_ROWS).to_dict("records"),
        clients_left=max(0, len(last_rounds) - MOST_ROWS), last_rounds=LAST_ROUNDS,
        evaluated=evaluated.to_dict("records"), lives=run.lives.to_dict("records"))


def _draw(run):
    wanted = {
        "losses": run.rounds[["train_loss", "eval_loss"]].notna().any(axis=None),
        "category_losses": (run.evaluation["category"] != "all").any(),
        "client_skills": (run.client_evaluation["category"] != "all").any(),
        "client_losses": run.clients["loss_last"].notna().any(),
        "partition": run.partition.size > 0,
        "phases": run.rounds["seconds_total"].notna().any(),
    }
    return {name: markupsafe.Markup(plots.to_svg(getattr(plots, name), run)) if has_data else ""
            for name, has_data in wanted.items()}


def _key_figures(run):
    """(name, text) of what a reader wants to know first."""
    planned = run.configuration.get("rounds")
    evaluated = run.rounds.dropna(subset=["eval_loss"])
    trained = run.rounds.dropna(subset=["train_loss"])
    total = run.rounds.sum(numeric_only=True)
    rate = total.get("tokens", 0) / total["seconds_train"] if total.get("seconds_train") else None
    return [
        ("rounds", f"{len(run.rounds)} of {planned}" if planned else str(len(run.rounds))),
        ("clients", count(run.attributes.get("num_clients"))),
        ("training loss", _first_to_last(trained["train_loss"])),
        ("evaluation loss", _first_to_last(evaluated["eval_loss"])),
        ("tokens", count(total.get("tokens"))),
        ("tokens a second", count(rate)),
        ("time in rounds", seconds(total.get("seconds_total"))),
        ("sent and received", size(total.get("bytes_up", 0) + total.get("bytes_down", 0))),
        ("rejected updates", count(total.get("rejected"))),
    ]


def _first_to_last(losses):
    if losses.empty:
        return "–"
    return " → ".join(number(loss) for loss in dict.fromkeys((losses.iloc[0], losses.iloc[-1])))


def number(value, digits=3):
    return "–" if value is None or pandas.isna(value) else f"{value:.{digits}f}"


def count(value):
    if value is None or pandas.isna(value):
        return "–"
    return f"{round(value):,}".replace(",", "\u202f")  # narrow spaces part the thousands


def seconds(value):
    if value is None or pandas.isna(value):
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(value):
    if value is None or pandas.isna(value):
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
