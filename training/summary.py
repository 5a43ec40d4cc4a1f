"""The lines of a report that go on a world's model card."""

from __future__ import annotations

from training.figures import Report
from training.wording import db, distances, dream_beside, found, measured_on, percent, plural, rate, score


def summary(report: Report) -> dict[str, str]:
    """What was measured and the figure with what belongs beside it, in short, for a model card."""
    step = report["one_step"]
    lines = {
        "measured on": measured_on(report),
        "autoencoder PSNR": f"{db(report['autoencoder'].get('psnr'))}, {report['autoencoder']['n']} frames",
        "one-step PSNR": f"{dream_beside(step, 'psnr')}, {step['n']} steps",
        "one-step HaarPSI": f"{dream_beside(step, 'haarpsi')}, {step['n']} steps",
    }
    for count, part in report["denoising_steps"]["one_step"]["by_count"].items():
        lines[f"one-step HaarPSI, {plural(count)}"] = f"{score(part.get('haarpsi'))}, {part['n']} steps"
    if turns := report.get("turns"):
        lines["turns: true action best of 5"] = f"{percent(turns['better_than_each_other'])}, {turns['n']} turns"
    reached = {horizon: part for horizon, part in report["free_running"].items() if part["n"]}
    for horizon, part in reached.items():
        lines[f"free-running PSNR, step {horizon}"] = f"{dream_beside(part, 'psnr')}, {part['n']} runs"
    for horizon, part in reached.items():
        if cast := part.get("cast"):
            four = cast["four_ghosts_where_real"]
            lines[f"four ghosts, step {horizon}"] = f"{percent(four['dream'])} of {four['n']} where the game shows four"
            beside = f"real {percent(cast['real'])}, where real {percent(cast['dream_where_real'])}"
            figure = f"{percent(cast['dream'])} ({beside}), {cast['n']} runs"
            lines[f"Pac-Man and 3 ghosts whole, step {horizon}"] = figure
            place = part["pacman_in_place"]
            figure = f"{percent(place['dream'])} (repeat-last {percent(place['repeat_last'])}), {place['n']} runs"
            lines[f"Pac-Man within a tile of the real one, step {horizon}"] = figure
    if control := report.get("control"):
        for name, key in (("control", "all"), ("control on turns and reversals", "turning and reversing")):
            beside = f"keeping direction {percent(control[key]['keeps_direction'])}"
            lines[name] = f"{percent(control[key]['dream'])} ({beside}), {control[key]['n']} steps"
    frechet = report["frechet"]
    if long := report.get("long_runs"):
        dream, real = (long[kind]["rules"] for kind in ("dream", "real"))
        beside = f"reader on real frames {rate(real['per_1000']['all'])}"
        runs = f"{long['seeds']} runs of {long['steps']} steps, {long['dream']['collapsed']['runs']} collapsed"
        lines["rule violations per 1,000 free steps"] = f"{rate(dream['per_1000']['all'])} ({beside}), {runs}"
    if two := report.get("two_generators"):
        lines["ghosts part ways under two generators"] = f"{percent(two['ghosts_differ'])} of {two['n']}"
    if frechet["dream"] is not None:
        lines["Frechet distance of clips"] = distances(frechet)
    if rewards := report.get("rewards"):
        for name, key in (("pellets (10)", "pellets"), ("power pellets (100)", "power_pellets"), ("ghosts", "ghosts")):
            lines[f"{name} recalled"] = f"{found(rewards[key])}, {rewards[key]['real']} eaten"
    if lives := report.get("lives_lost"):
        lines["lost lives found within 2 steps"] = f"{found(lives)}, {lives['real']} lost in {lives['n']} steps"
    ends = report["ends"]
    lines["ends found"] = f"{found(ends)}, {ends['real']} ends in {ends['n']} steps"
    return lines
