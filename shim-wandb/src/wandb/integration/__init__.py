"""wandb.integration: small callbacks with wandb's names and signatures."""
