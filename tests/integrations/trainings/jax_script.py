"""A plain JAX script under `import tracker as wandb`: its arrays are logged as they come."""

import jax
import jax.numpy as jnp
from reporting import report

import tracker as wandb

run = wandb.init(project="jax", config={"rate": jnp.float32(0.25), "steps": 5})
key = jax.random.PRNGKey(0)
inputs = jax.random.normal(key, (16, 3))
targets = inputs @ jnp.array([1.0, -2.0, 0.5])


@jax.jit
def advance(weights):
    loss, gradient = jax.value_and_grad(lambda given: jnp.mean((inputs @ given - targets) ** 2))(weights)
    return weights - 0.25 * gradient, loss, gradient


weights = jnp.zeros(3)
told = {"loss": [], "norm": [], "half": [], "weight": []}
for step in range(5):
    weights, loss, gradient = advance(weights)
    row = {
        "loss": loss,
        "norm": jnp.linalg.norm(gradient),
        "half": loss.astype(jnp.bfloat16),
        "weight": weights[:1],
        "steps": jnp.int32(step),
    }
    wandb.log(row)
    for name, values in told.items():
        values.append(float(row[name].reshape(())))
wandb.log({"large": jnp.arange(1000.0)})
wandb.summary["weights"] = weights
report(run=run.id, project=run.project, told=told, weights=[float(each) for each in weights])
