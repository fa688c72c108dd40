"""The whole trip with one run on ml-100k, from training to answers by HTTP, a `# %%` cell a step.

    python examples/trip.py [--epochs=10] [--key=value ...] [--run=saved/GenCI-ml-100k-<time>]

`--run` leaves the training out; other words are keys of the run. It ends in about two minutes of
one core. What it writes lies in `saved/`, `results/` and `trip/` of the current folder; what it
prints stands in examples/README.md.
"""

# %% Settings: few epochs, semantic IDs of its own, so that new items can have some, too
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import requests
import torch

from recbole_genci import Ranker, load, run
from recbole_genci.config import parse_argv

given = {} if "ipykernel" in sys.modules else parse_argv(sys.argv[1:])
folder = given.pop("run", None)
keys = {"text_encoder": "lsa", "quantizer": "rkmeans", "epochs": 2} | given
examples = Path(globals().get("__file__", "examples/trip.py")).resolve().parent
trip = Path("trip")
trip.mkdir(exist_ok=True)
pd.set_option("display.width", 100, "display.max_colwidth", 60)


def title(words: str) -> None:
    print(f"\n== {words}", flush=True)


# %% Train
title("Train")
if folder is None:
    [result] = run("GenCI", "ml-100k", config_dict=keys)
    folder = result.folder
print(f"The run lies in {folder}.")

# %% Load: the model, its rows and their scores come back as they were
title("Load")
saved = load(folder)
print(saved)
predictions = saved.predictions("test")
print(predictions.head(3).to_string(index=False))

# %% A new user: some clicks and features are enough
title("A new user, by three clicks and what she says of herself")
ranker = Ranker(saved)
films = {text.split(".")[0]: item for item, text in ranker.texts.items()}
clicks = [films[name] for name in ("Star Wars", "Alien", "Blade Runner")]
new_user = {
    "histories": {"ada": clicks},
    "user_features": {"ada": {"age": 25, "gender": "F", "occupation": "scientist"}},
}
columns = ["rank", "item", "probability", "text"]
print(ranker.recommend(["ada"], k=5, **new_user)[columns].to_string(index=False))

title("The same of 100 items that GenCI generates")
best = ranker.recommend(["ada"], k=5, candidates=100, **new_user)
print(best[columns].to_string(index=False))

# %% New items: their texts are enough
title("Two films that came later, by their texts")
new_items = pd.DataFrame(
    {
        "item_id": ["ryan", "truman"],
        "movie_title": ["Saving Private Ryan", "The Truman Show"],
        "class": ["Action Drama War", "Drama"],
        "release_year": ["1998", "1998"],
    }
)
new_items.to_csv(trip / "new_items.csv", index=False)
wider = ranker.with_items(trip / "new_items.csv")
print(f"{len(ranker.items)} items before, {len(wider.items)} now")
some = {"ada": "ryan and truman for her", "1": "for user 1 of the run"}
scores = wider.score(list(some), ["ryan", "truman"], **new_user)
print(pd.DataFrame(scores, list(some.values()), ["ryan", "truman"]).to_string())

# %% A file of rows
title("A file of rows, by the command")
rows = predictions.head(2_000).rename(
    columns={"user": "user_id", "item": "item_id", "time": "timestamp"}
)
rows.drop(columns="score").to_csv(trip / "rows.csv", index=False)
words = [f"--run={folder}", f"--input={trip}/rows.csv", f"--output={trip}/scores.csv"]
subprocess.run([sys.executable, "-m", "recbole_genci.predict", *words], check=True)
scored = pd.read_csv(trip / "scores.csv")
print(scored.head(3).to_string(index=False))
difference = (scored["score"] - predictions["score"].head(2_000)).abs().max()
print(f"The largest difference from the run's own scores is {difference:.0e}.")

# %% Export: the scorer as a program for torch.export, AOTInductor or ONNX Runtime
title("Export: a program without Python or this package")
words = [f"--run={folder}", f"--output={trip}/scorer.pt2"]
subprocess.run([sys.executable, "-m", "recbole_genci.export", *words], check=True)
about = json.loads((trip / "scorer.pt2.json").read_text(encoding="utf-8"))
numbers = json.loads((trip / "scorer.pt2.vocabularies.json").read_text(encoding="utf-8"))["item_id"]
candidates = [films["Casablanca"], films["Mulholland Falls"]]
history = torch.zeros(2, about["history"]["longest"], dtype=torch.int64)
history[:, : len(clicks)] = torch.tensor([numbers.index(item) for item in clicks])
program = torch.export.load(trip / "scorer.pt2").module()
with torch.no_grad():
    found = program(
        user_id=torch.zeros(2, dtype=torch.int64),  # someone whom the run does not know
        item_id=torch.tensor([numbers.index(item) for item in candidates]),
        item_id_list=history,
        item_length=torch.full((2,), len(clicks)),
    )
by_ranker = ranker.score(["ada"], candidates, histories=new_user["histories"])[0]
print(f"Casablanca {found[0]:.6f}, Mulholland Falls {found[1]:.6f}")
print(f"The largest difference from Ranker is {abs(found.numpy() - by_ranker).max():.0e}.")

# %% HTTP: the example in a process of its own, which is asked as any client would
title("HTTP")
if importlib.util.find_spec("fastapi") is None:
    sys.exit("Left out: it needs pip install fastapi uvicorn.")
server = subprocess.Popen(
    [sys.executable, str(examples / "serve/app.py"), f"--run={folder}", "--port=0"],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
)
try:
    for line in server.stderr:
        if started := re.search(r"running on (http://\S+)", line):
            address = started[1]
            break
    else:
        sys.exit(f"The server did not start: {line}")
    print(requests.get(f"{address}/health", timeout=60).json())
    answer = requests.post(
        f"{address}/recommend", json={"users": ["ada"], "k": 2, **new_user}, timeout=60
    )
    print(answer.status_code, answer.json())
    answer = requests.post(f"{address}/recommend", json={"users": ["eve"]}, timeout=60)
    print(answer.status_code, answer.json())
finally:
    server.terminate()
    server.communicate()
print(f"The server ended with status {server.returncode}.")
