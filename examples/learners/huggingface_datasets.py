"""Curated rows as a dataset of Hugging Face's; pip install datasets. vaco_curate is not needed here.

vaco-curate reweight RUN --out weighted
python huggingface_datasets.py weighted
"""

import sys

import datasets
import numpy as np
import torch

rows = datasets.load_dataset(sys.argv[1], split="train")
rows = rows.filter(lambda row: row["has_successor"] or row["terminated"])
names = ["observation", "action", "reward", "next_observation", "terminated", "weight"]
rows = rows.with_format("torch", columns=names)
share = np.array(rows.with_format("numpy")["weight"], dtype=np.float64)
sums = np.cumsum(share)


class Batches(torch.utils.data.Sampler):
    def __iter__(self):
        for _ in range(50):
            yield np.searchsorted(sums, np.random.rand(256) * sums[-1], side="right").tolist()


loader = torch.utils.data.DataLoader(rows, sampler=Batches(), batch_size=None)
for batch in loader:
    observation, action, weight = batch["observation"], batch["action"], batch["weight"]
print(f"{len(rows)} rows, mean weight of the last batch {weight.mean():.2f}")
