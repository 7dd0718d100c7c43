"""Command lines and addresses are recorded without the secrets in them."""

import pytest

from tracker._secrets import is_secret_name, without_secrets, without_secrets_in

R = "[removed]"


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (["train.py", "--lr", "0.1"], ["train.py", "--lr", "0.1"]),
        (["--api-key", "hush", "--epochs", "3"], ["--api-key", R, "--epochs", "3"]),
        (["--password", "-hush"], ["--password", R]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["--api_key=hush,more{hush}"], ["--api_key=" + R]),
        (["HF_TOKEN=hush"], ["HF_TOKEN=" + R]),
        (["+trainer.logger.apiKey=hush"], ["+trainer.logger.apiKey=" + R]),
        (['{"lr": 0.1, "api_key": "hush hush", "n": 2}'], ['{"lr": 0.1, "api_key": [removed], "n": 2}']),
        (["--header", "Authorization: Bearer hush"], ["--header", "Authorization: " + R]),
        (["https://ada:hush@example.org/x"], ["https://example.org/x"]),
        (["--data=https://example.org/x?n=1&access_token=hush&m=2"],
         ["--data=https://example.org/x?n=1&access_token=[removed]&m=2"]),
        (["s3://hush@bucket/x"], ["s3://bucket/x"]),
        (["-c", "login('tk_4f8a1c22_AAAABBBBCCCCDDDD')"], ["-c", "login('[removed]')"]),
        (["hf_AAAABBBBCCCCDDDDEEEE", "sk-proj-AAAABBBBCCCCDDDDEEEE"], [R, R]),
        (["opt=a:password=hush"], ["opt=a:password=" + R]),
        (["--max-tokens", "512", "--tokenizer", "x", "--monkey", "y"],
         ["--max-tokens", "512", "--tokenizer", "x", "--monkey", "y"]),
        (["C:\\data", "a=b", "--x=", "=", ""], ["C:\\data", "a=b", "--x=", "=", ""]),
    ],
)  # fmt: skip
def test_secrets_are_removed_and_the_rest_stays(given: list[str], recorded: list[str]) -> None:
    assert without_secrets(given) == recorded


@pytest.mark.parametrize("name", ["key", "API_KEY", "apiKey", "wandb-api-key", "HFToken", "db.passwd", "PAT"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["lr", "keyboard", "tokens", "tokenizer", "monkey", "path", "author", "passes"]
)
def test_other_names(name: str) -> None:
    assert not is_secret_name(name)


def test_long_arguments_take_no_time() -> None:
    for text in ("a" * 100_000, "a=" * 2_000, "key" * 30_000, "://" * 30_000, "eyJ" + "a." * 30_000):
        without_secrets_in(text)
