"""TRL's SFTTrainer with report_to="wandb": a GPT-2 of a thousand random parameters on nine words."""

import torch
from datasets import Dataset
from reporting import plain, report
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

import wandb

WORDS = ["<pad>", "<end>", "the", "loss", "goes", "down", "and", "up", "again"]

numbers = {word: number for number, word in enumerate(WORDS)}
tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<pad>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
torch.manual_seed(0)
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=len(WORDS), n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1
    )
)
rows = Dataset.from_dict({"text": ["the loss goes down", "and up again", "the loss goes down and up"] * 4})
arguments = SFTConfig(
    output_dir="out",
    run_name="tiny-sft",
    report_to=["wandb"],
    max_steps=4,
    per_device_train_batch_size=4,
    logging_steps=1,
    eval_strategy="steps",
    eval_steps=2,
    save_strategy="no",
    max_length=16,
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    disable_tqdm=True,
)
trainer = SFTTrainer(
    model=model,
    args=arguments,
    train_dataset=rows,
    eval_dataset=rows,
    processing_class=PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>"
    ),
)
trainer.train()
run = wandb.run
report(
    run=run.id,
    project=run.project,
    name=run.name,
    history=trainer.state.log_history,
    arguments=plain(arguments.to_dict()),
)
