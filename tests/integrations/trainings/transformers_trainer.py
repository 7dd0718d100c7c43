"""transformers' Trainer with report_to="wandb": a GPT-2 of a thousand random parameters on random tokens."""

import sys

import torch
from reporting import plain, report, sha256
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import wandb

TOKENS, LENGTH, ROWS = 40, 8, 24


class RandomTokens(torch.utils.data.Dataset):
    def __init__(self, seed):
        self.rows = torch.randint(TOKENS, (ROWS, LENGTH), generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


torch.manual_seed(0)
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=TOKENS, n_positions=LENGTH, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
)
before = plain(model.config.to_dict())
arguments = TrainingArguments(
    output_dir="out",
    run_name="tiny-gpt2",
    report_to=sys.argv[1:] or ["wandb"],
    max_steps=6,
    per_device_train_batch_size=4,
    logging_steps=1,
    eval_strategy="steps",
    eval_steps=3,
    save_steps=3,
    use_cpu=True,
    disable_tqdm=True,
)
trainer = Trainer(model=model, args=arguments, train_dataset=RandomTokens(1), eval_dataset=RandomTokens(2))
trainer.train()
run = wandb.run
report(
    run=run.id,
    project=run.project,
    name=run.name,
    history=trainer.state.log_history,
    arguments=plain(arguments.to_dict()),
    model=before,
    parameters=model.num_parameters(),
    checkpoints=[sha256("out/checkpoint-%d/model.safetensors" % step) for step in (3, 6)],
)
