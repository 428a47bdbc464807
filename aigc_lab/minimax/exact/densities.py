"""What quadrature needs of a torch distribution: its log-density in float64 on all of space, the edges of
its support, and points around which its mass lies.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Transform,
    TransformedDistribution,
    constraints,
)
from torch.distributions.constraints import Constraint

N_SEEDS = 64
SEEDS_PER_COMPONENT = 16

Function = TypeVar("Function", bound=Callable[..., Any])


def _asks_for(what: str) -> Callable[[Function], Function]:
    """A function of a law: what torch raises where the law has no answer becomes a ValueError of one line."""

    def asking(function: Function) -> Function:
        @functools.wraps(function)
        def ask(law: Distribution, *arguments: Tensor) -> Any:
            try:
                return function(law, *arguments)
            except (RuntimeError, AttributeError) as error:
                reason = (str(error) or "it is not implemented").splitlines()[0]
                raise ValueError(f"a {type(law).__name__} does not give {what}: {reason}") from error

        return cast(Function, ask)

    return asking


def in_float64(law: Distribution) -> Distribution:
    """A copy of the law with all parameters float64, detached, on the CPU, and no check of arguments."""
    return _copied(law, {})


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", torch.float64 if value.is_floating_point() else value.dtype)
    if isinstance(value, list):
        return [_copied(v, copies) for v in value]
    if not isinstance(value, Distribution | Transform):
        return value
    if id(value) not in copies:  # a transform and its inverse hold each other
        twin = copies[id(value)] = copy.copy(value)
        vars(twin).update({name: _copied(v, copies) for name, v in vars(value).items()})
        if isinstance(twin, Distribution):
            twin._validate_args = False
    return copies[id(value)]


@_asks_for("its support")
def support(law: Distribution) -> Constraint:
    """The set that the law lives on, as torch states it."""
    found = law.support
    assert found is not None, f"{type(law).__name__} states no support"
    return found


@_asks_for("its density")
def log_density(law: Distribution, x: Tensor) -> Tensor:
    """log p(x), -inf outside the support; x is [..., *event_shape], the result [..., *batch_shape].

    Not simply `law.log_prob`: that of an exponential law is finite at negative numbers, that of a mixture
    refuses a point that lies in the support of some components only, and that of a zero probability is the
    logarithm of a rounding error.
    """
    if isinstance(law, MixtureSameFamily):
        x = x.unsqueeze(-1 - len(law.event_shape))
        return (_log_table(law.mixture_distribution) + log_density(law.component_distribution, x)).logsumexp(-1)
    if isinstance(law, Independent):
        return _last_dims(log_density(law.base_dist, x), law.reinterpreted_batch_ndims).sum(-1)
    if isinstance(law, TransformedDistribution) and _is_pushed_forward(law):
        return _transformed_log_density(law, x)
    if isinstance(law, Categorical | Bernoulli):
        table = _log_table(law)
        index = x.long().clamp(0, table.shape[-1] - 1)
        shape = torch.broadcast_shapes(index.shape, table.shape[:-1])
        log_p = table.expand(*shape, -1).gather(-1, index.expand(shape)[..., None]).squeeze(-1)
    else:
        log_p = law.log_prob(x)
    return torch.where(support(law).check(x), log_p, -torch.inf)


def _log_table(law: Categorical | Bernoulli) -> Tensor:
    """The logarithms of the probabilities of 0, 1, ..., [*batch_shape, K]."""
    if "probs" in vars(law):
        probs = torch.stack([1 - law.probs, law.probs], -1) if isinstance(law, Bernoulli) else law.probs
        return (probs / probs.sum(-1, keepdim=True)).log()
    logits = (
        torch.stack([torch.zeros_like(law.logits), law.logits], -1) if isinstance(law, Bernoulli) else law.logits
    )
    return logits.log_softmax(-1)


def _transformed_log_density(law: TransformedDistribution, y: Tensor) -> Tensor:
    """log p(x) - Σ log |dy/dx| at the x that the transforms take to y; -inf where there is none."""
    event_dim = len(law.event_shape)
    log_slope, reached = y.new_zeros(()), torch.ones((), dtype=torch.bool)
    for transform in reversed(law.transforms):
        reached = reached & _last_dims(transform.codomain.check(y), event_dim - transform.codomain.event_dim).all(
            -1
        )
        x = transform.inv(y)
        event_dim += transform.domain.event_dim - transform.codomain.event_dim
        slopes = transform.log_abs_det_jacobian(x, y)
        log_slope = log_slope + _last_dims(slopes, event_dim - transform.domain.event_dim).sum(-1)
        y = x
    base = _last_dims(log_density(law.base_dist, y), event_dim - len(law.base_dist.event_shape)).sum(-1)
    return torch.where(reached & (base > -torch.inf), base - log_slope, -torch.inf)


def _last_dims(values: Tensor, n: int) -> Tensor:
    """The last n dimensions as one (of size 1 where n = 0)."""
    return values.reshape(*values.shape[: values.dim() - n], -1)


@_asks_for("its values")
def atoms(law: Distribution) -> Tensor:
    """The values of a discrete law, [K, *event_shape]; of a law on all integers, those with 1 - 1e-12 of the mass.

    Of a mixture or a batch of laws, those of any of them, with repetitions.

    Raises:
        ValueError: the law cannot be enumerated.
    """
    if isinstance(law, MixtureSameFamily):
        return atoms(law.component_distribution)
    if law.has_enumerate_support:
        return law.enumerate_support().flatten(0, len(law.batch_shape))
    if not isinstance(support(law), type(constraints.nonnegative_integer)):
        raise ValueError(f"the values of a {type(law).__name__} cannot be enumerated: give a Categorical")
    for power in range(4, 23):
        values = torch.arange(2**power, dtype=torch.float64)
        masses = log_density(law, values.view(-1, *[1] * len(law.batch_shape))).exp().sum(0)
        if (masses > 1 - 1e-12).all():
            break
    return values


@_asks_for("its edges")
def edges(law: Distribution) -> Tensor:
    """Where the density may jump, along each axis: [E, d]."""
    if isinstance(law, MixtureSameFamily):
        return edges(law.component_distribution)
    d = law.event_shape.numel()
    if not (isinstance(law, TransformedDistribution) and _is_pushed_forward(law)):
        return _bounds(support(law), d)
    found = edges(law.base_dist)
    for transform in law.transforms:
        found = torch.cat([transform(found), _bounds(transform.codomain, d)])
    return found


def _bounds(constraint: Constraint, d: int) -> Tensor:
    """The bounds that a constraint sets, [E, d]."""
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    names = [name for name in ("lower_bound", "upper_bound") if hasattr(constraint, name)]
    bounds = [torch.as_tensor(getattr(constraint, name), dtype=torch.float64) for name in names]
    rows = [bound.expand(torch.broadcast_shapes(bound.shape, (d,))).reshape(-1, d) for bound in bounds]
    return torch.cat([torch.empty(0, d, dtype=torch.float64), *rows])


def _is_pushed_forward(law: TransformedDistribution) -> bool:
    """Whether the density is the base law's, by the change of variables (a HalfNormal's is not)."""
    return type(law).log_prob is TransformedDistribution.log_prob


@_asks_for("samples")
def seeds(law: Distribution) -> Tensor:
    """Points around which the mass lies, and further out at 2, 4 and 8 times their distance, [S, d].

    As many for each component of a mixture, however unlikely. Drawn with a seed of their own; the global
    random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)  # torch.manual_seed would turn the GPUs' generators too
        found = _draw(law).reshape(-1, law.event_shape.numel()).double()
    return found[found.isfinite().all(1)]


def _draw(law: Distribution) -> Tensor:
    """[n, *batch_shape, *event_shape] or more."""
    if isinstance(law, MixtureSameFamily):
        return _draw(law.component_distribution)
    if isinstance(law, TransformedDistribution):
        found = _draw(law.base_dist)
        for transform in law.transforms:
            found = transform(found)
        return found
    found = law.sample((max(SEEDS_PER_COMPONENT, N_SEEDS // law.batch_shape.numel()),))
    centre = found.quantile(0.5, dim=0)  # between two of them: none is equal to its own copies
    return torch.cat([centre + factor * (found - centre) for factor in (1, 2, 4, 8)])
