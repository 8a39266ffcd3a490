"""render(): the text of the page."""

import json
from importlib.resources import files

from .contents import Contents
from .figures import embed
from .glossary import GLOSSARY
from .markup import anchor, definitions, plain_value, text
from .tables import comparison_table, data_list, reconstruction_table, settings_of

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # no request at all
SCRIPTS = ("tables.js", "decoder.js", "explorer.js")


def render(contents: Contents) -> str:
    """Make the page.

    Args:
        contents: All that it shows.

    Returns:
        HTML in one text. It loads nothing from anywhere.
    """
    names = [*contents.comparison.evidence, *(n for n in contents.without_density if n in contents.settings)]
    title = f"{_listed(names)} on {contents.metadata['data']}"
    sections = [
        ("asked", "What was asked", _asked(contents)),
        ("comparison", "The comparison", _compared(contents)),
        ("figures", "Figures", "".join(map(embed, contents.figures))),
        ("explorer", "Move through the latent space", _explorer(contents)),
        ("verdicts", "Can these numbers be believed?", _verdicts(contents)),
        ("metadata", "How it was computed", _metadata(contents)),
        ("glossary", "Glossary", _glossary()),
    ]
    shown = [(key, heading, body) for key, heading, body in sections if body]
    links = "".join(f'<a href="#{key}">{text(heading)}</a>' for key, heading, _ in shown)
    main = "".join(f'<section id="{key}"><h2>{text(heading)}</h2>{body}</section>' for key, heading, body in shown)
    scripts = "".join(f"<script>{_asset(name)}</script>" for name in SCRIPTS)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>{_asset('page.css')}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#main">Skip to the content</a>\n<header><p class="made">pyrovae report</p>'
        f'<h1>{text(title)}</h1><p class="lead">{_lead(contents)}</p><nav aria-label="Parts of this page">{links}</nav></header>\n'
        f'<main id="main">\n{main}\n</main>\n'
        f'<script type="application/json" id="explorers">{_json(contents.explorers)}</script>\n{scripts}\n</body>\n</html>\n'
    )


def _lead(contents: Contents) -> str:
    """The result in a sentence or two."""
    comparison = contents.comparison
    best = comparison.best
    value = comparison.evidence[best].mean_log_likelihood.value
    sentence = f"{text(best)} has {'the highest ' if len(comparison.evidence) > 1 else ''}log p̂(x): {value:.2f} nats per held-out point."
    others = sorted((comparison.difference(name, best).value, name) for name in comparison.evidence if name != best)
    if others:
        difference = comparison.difference(others[-1][1], best)
        error = (difference.mc_se**2 + difference.data_se**2) ** 0.5
        sentence += f" {text(others[-1][1])} follows {-difference.value:.2f} ± {error:.2f} nats behind."
    doubtful = [name for name, evidence in comparison.evidence.items() if evidence.reliability != "reliable"]
    if doubtful:
        sentence += f" Only a lower bound is known of {text(_listed(doubtful))}."
    return sentence.replace(" -", " −")


def _asked(contents: Contents) -> str:
    models = "".join(settings_of(name, settings) for name, settings in contents.settings.items())
    return data_list(contents) + models


def _compared(contents: Contents) -> str:
    parts = [comparison_table(contents.comparison)]
    if contents.reconstructions:
        parts.append(reconstruction_table(contents))
    notes = [f"{name} failed: {why}" for name, why in contents.comparison.failed.items()]
    notes += [f"{name} was left out: {why}" for name, why in contents.excluded.items()]
    return "".join(parts) + "".join(f"<p>{text(note)}</p>" for note in notes)


def _explorer(contents: Contents) -> str:
    return '<div id="spaces"><noscript>This part needs JavaScript.</noscript></div>' if contents.explorers else ""


def _verdicts(contents: Contents) -> str:
    items = []
    for name, evidence in contents.comparison.evidence.items():
        kind = "reliable" if evidence.reliability == "reliable" else "doubtful"
        items.append(f'<li class="{kind}"><strong>{text(name)}</strong>: {text(evidence.reliability_message)}</li>')
        fit = (contents.comparison.fits or {}).get(name)
        if fit is not None and fit.warning:
            items.append(f'<li class="doubtful"><strong>{text(name)}</strong>: {text(fit.warning)}</li>')
    items += [f"<li><strong>{text(name)}</strong>: {text(why)}</li>" for name, why in contents.without_density.items()]
    return f'<ul class="verdicts">{"".join(items)}</ul>'


def _metadata(contents: Contents) -> str:
    return definitions((text(key.replace("_", " ")), plain_value(value)) for key, value in contents.metadata.items())


def _glossary() -> str:
    entries = "".join(
        f'<div id="{anchor(key)}"><dt>{text(key)}</dt><dd>{text(meaning)}</dd></div>'
        for key, meaning in GLOSSARY.items()
    )
    return f"<dl>{entries}</dl>"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _json(content: object) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
