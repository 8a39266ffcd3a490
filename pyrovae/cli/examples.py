"""Examples of each command, below the options in its `--help`. The tests read them as the command line would."""

EXAMPLES = {
    "compare": [
        "pyrovae compare",
        'pyrovae compare --models "gmm,vae(guide=IAF)" --out runs/compared',
        "pyrovae compare runs/vae runs/iaf --json compared.json",
        "pyrovae compare gmm my_model.py --data points.csv",
    ],
    "choose": [
        "pyrovae choose gmm --over components=1..20 --data iris",
        "pyrovae choose vae --over latent=2,4,8 --epochs 20",
    ],
    "train": [
        "pyrovae train vae",
        "pyrovae train vae --set latent=8 --set guide=IAF --out runs/iaf",
        "pyrovae train my_model.py --data points.csv --epochs 50",
        "pyrovae train --resume runs/vae",
    ],
    "evaluate": [
        "pyrovae evaluate runs/vae",
        "pyrovae evaluate runs/vae --tolerance 0.02 --json vae.json",
        "pyrovae evaluate runs/vae --num-samples 5000 --ais",
        "pyrovae evaluate runs/vae --per-point points.csv --ranking ranking.png",
    ],
    "gap": ["pyrovae gap runs/vae", "pyrovae gap runs/vae --points 50 --out gap.png"],
    "diagnose": ["pyrovae diagnose runs/vae", "pyrovae diagnose runs/vae --points 200 --json latents.json"],
    "distil": ["pyrovae distil runs/vae --out runs/distilled"],
    "impute": [
        "pyrovae impute runs/ppca --out filled.csv",
        "pyrovae impute runs/ppca --data new.csv --out filled.csv --cells bands.csv",
    ],
    "sample": ["pyrovae sample runs/vae", "pyrovae sample runs/vae --num-samples 1000 --out samples.npy"],
    "export": ["pyrovae export runs/vae --safetensors", "pyrovae export runs/vae --onnx --out exported"],
    "show": [
        "pyrovae show runs/vae reconstruct",
        "pyrovae show runs/vae latent --out latent.svg",
        "pyrovae show runs/vae interpolate 3 17",
    ],
    "report": ["pyrovae report runs/vae", "pyrovae report runs/vae runs/iaf --out report.html"],
    "models": ["pyrovae models", "pyrovae models vae"],
    "new": ["pyrovae new my_model.py", "pyrovae new my_guide.py"],
}


def epilog(name: str) -> str | None:
    """Return the examples of a command as its help shows them. The first character keeps the lines apart."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in EXAMPLES[name])]) if name in EXAMPLES else None
