"""Two-player games with one parameter each, and what every training method does to them.

A state is x = (θ, ψ), a tensor [..., 2]: the generator's parameter and the discriminator's. A game is a vector
field v: [..., 2] -> [..., 2], the direction in which both players descend; penalties and other regularisers
take a field and return one. A method is an update, a map from a state to the next. Fields and updates are
functions of tensors, so `eigenvalues` takes either: real parts below 0 of a field, moduli below 1 of an
update, mean convergence near an equilibrium.

The Dirac-GAN (Mescheder et al. 2018, section 2.1): the data is the point 0, the generator the point θ, and
D(x) = ψx; θ descends and ψ ascends f(ψθ) + f(0). Its equilibrium is (0, 0).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.nn.functional import logsigmoid

Field = Callable[[Tensor], Tensor]
Update = Callable[[Tensor], Tensor]

N_NOISE_NODES = 40
N_NEWTON = 10
ARRIVED = 1e-15
"""A step of Newton's method that is shorter than this was the last."""


def dirac_gan(x: Tensor) -> Tensor:
    """The minimax GAN, f(t) = -log(1 + e^-t): v = (-ψ f'(θψ), θ f'(θψ)), f'(t) = σ(-t). ±i/2 at equilibrium."""
    theta, psi = x.unbind(-1)
    slope = torch.sigmoid(-theta * psi)
    return torch.stack([-psi * slope, theta * slope], -1)


def dirac_nsgan(x: Tensor) -> Tensor:
    """The non-saturating GAN: the generator ascends f(-(-ψθ)), so that its slope is f'(-θψ)."""
    theta, psi = x.unbind(-1)
    return torch.stack([-psi * torch.sigmoid(theta * psi), theta * torch.sigmoid(-theta * psi)], -1)


def dirac_relativistic(x: Tensor) -> Tensor:
    """The relativistic GAN (Jolicoeur-Martineau 2019) as a zero-sum game, whose value is f(D(G) - D(x)) = f(θψ).

    That is the minimax GAN's less the constant f(0), so that the field is the same: it is no cure by itself.
    """
    return zero_sum(lambda y: logsigmoid(y.prod(-1)))(x)


def zero_sum(value: Callable[[Tensor], Tensor]) -> Field:
    """θ descends and ψ ascends a value, states [..., 2] -> [...]; by automatic differentiation."""

    def field(x: Tensor) -> Tensor:
        return torch.func.grad(lambda y: value(y).sum())(x) * x.new_tensor([-1.0, 1.0])

    return field


def bilinear(x: Tensor) -> Tensor:
    """min_θ max_ψ θψ, which is the Wasserstein GAN: v = (-ψ, θ)."""
    theta, psi = x.unbind(-1)
    return torch.stack([-psi, theta], -1)


def dirac_hinge(x: Tensor) -> Tensor:
    """The hinge GAN: f(t) = min(0, t - 1) for the discriminator, -D for the generator. Bilinear where θψ < 1;
    beyond, the discriminator is content and stands still.
    """
    theta, psi = x.unbind(-1)
    return torch.stack([-psi, theta * (theta * psi < 1)], -1)


def dirac_spectral_norm(x: Tensor) -> Tensor:
    """A critic normalised by its own slope, D(x) = sign(ψ) x: ψ has no gradient and θ one of constant size."""
    _, psi = x.unbind(-1)
    return torch.stack([-psi.sign(), torch.zeros_like(psi)], -1)


def r1(field: Field, *, gamma: float) -> Field:
    """γ/2 |∇_x D|² = γ/2 ψ² on the data (Mescheder et al. 2018, equation 9). R2, on the generator's points,
    is the same here: both together are R1 with 2γ.
    """
    return lambda x: field(x) - gamma * x * _psi_only(x)


def gradient_penalty(field: Field, *, gamma: float, target: float) -> Field:
    """γ/2 (|∇_x D| - g0)² = γ/2 (|ψ| - g0)², g0 = target (Gulrajani et al. 2017). Discontinuous at ψ = 0."""
    return lambda x: field(x) - gamma * (x - target * x.sign()) * _psi_only(x)


def instance_noise(field: Field, *, sd: float) -> Field:
    """A Dirac-GAN whose data and generator are blurred by N(0, sd²) (Sønderby et al. 2017),
    the expectation taken by Gauss-Hermite quadrature.
    """
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(N_NOISE_NODES))
    weights = weights / weights.sum()

    def blurred(x: Tensor) -> Tensor:
        noise = torch.stack([sd * nodes, torch.zeros_like(nodes)], -1).to(x)
        generated = field(x[..., None, :] + noise)
        data = field(x[..., None, :] * _psi_only(x) + noise) * _psi_only(x)  # f(-ψε): a generator at -ε
        return ((generated + data) * weights.to(x)[:, None]).sum(-2)

    return blurred


def consensus(field: Field, *, gamma: float) -> Field:
    """Both players also descend γ/2 |v|²: v - γ J'v (Mescheder et al. 2017, equation 9)."""

    def regularised(x: Tensor) -> Tensor:
        v, pull_back = torch.func.vjp(field, x)[:2]
        return v - gamma * pull_back(v)[0]

    return regularised


def simultaneous(field: Field, step: float | Tensor) -> Update:
    """x + h v(x); a step [2], (for θ, for ψ), gives two time-scales (Heusel et al. 2017)."""
    return lambda x: x + step * field(x)


def alternating(
    field: Field, step: float | Tensor, *, discriminator_steps: int = 1, clip: float = math.inf
) -> Update:
    """One step of θ, then steps of ψ, each from where the other is now; ψ is kept in [-clip, clip] (WGAN)."""

    def update(x: Tensor) -> Tensor:
        x = x + step * field(x) * _theta_only(x)
        bound = x.new_tensor([math.inf, clip])
        for _ in range(discriminator_steps):
            x = (x + step * field(x) * _psi_only(x)).clamp(-bound, bound)
        return x

    return update


def extragradient(field: Field, step: float) -> Update:
    """x + h v(x + h v(x)): the gradient of a step ahead (Korpelevich 1976)."""
    return lambda x: x + step * field(x + step * field(x))


def proximal_point(field: Field, step: float) -> Update:
    """The y with y = x + h v(y), by Newton's method: what extragradient and optimism imitate. States [2]."""

    def update(x: Tensor) -> Tensor:
        y = x
        for _ in range(N_NEWTON):
            slope = torch.eye(2).to(x) - step * jacobian(field, y)
            change = torch.linalg.solve(slope, y - step * field(y) - x)
            y = y - change
            if change.abs().max() < ARRIVED:
                break
        return y

    return update


def optimistic(field: Field, step: float) -> Update:
    """x_k + 2h v(x_k) - h v(x_{k-1}) (Daskalakis et al. 2018), on pairs (x_k, x_{k-1}) [..., 4]."""

    def update(pair: Tensor) -> Tensor:
        x, before = pair.chunk(2, -1)
        return torch.cat([x + 2 * step * field(x) - step * field(before), x], -1)

    return update


def alternating_momentum(field: Field, step: float, *, momentum: float) -> Update:
    """Alternating steps plus β (x_k - x_{k-1}) (Gidel et al. 2019), on pairs (x_k, x_{k-1}) [..., 4]."""

    def update(pair: Tensor) -> Tensor:
        x, before = pair.chunk(2, -1)
        inertia = momentum * (x - before)
        after = x + (step * field(x) + inertia) * _theta_only(x)
        after = after + (step * field(after) + inertia) * _psi_only(x)
        return torch.cat([after, x], -1)

    return update


def at_rest(x: Tensor) -> Tensor:
    """The pair (x, x) from which methods with a memory start."""
    return torch.cat([x, x], -1)


def iterate(update: Update, start: Tensor) -> Iterator[Tensor]:
    """start, update(start), update(update(start)), ..., without end."""
    x = start
    while True:
        yield x
        x = update(x)


def orbit(update: Update, start: Tensor, n: int) -> Tensor:
    """The start and n further states, [n + 1, *start.shape]."""
    return torch.stack(list(itertools.islice(iterate(update, start), n + 1)))


def flow(field: Field, start: Tensor, times: Sequence[float]) -> Tensor:
    """The solution of dx/dt = v(x), x(0) = start [2], at the given times: [len(times), 2]."""

    def velocity(t: float, x: np.ndarray) -> np.ndarray:
        return field(torch.from_numpy(x)).numpy()

    solution = solve_ivp(
        velocity, (0, times[-1]), start.double().numpy(), method="DOP853", t_eval=times, rtol=1e-11, atol=1e-13
    )
    return torch.from_numpy(solution.y.T)


def jacobian(f: Field | Update, x: Tensor) -> Tensor:
    """∂f_i/∂x_j of a field or an update at one state [n], by automatic differentiation: [n, n]."""
    return torch.func.jacrev(f)(x)


def eigenvalues(f: Field | Update, x: Tensor) -> Tensor:
    """The eigenvalues of the Jacobian at x, complex [n], by real part and then by imaginary part."""
    found = torch.linalg.eigvals(jacobian(f, x))
    return found[np.lexsort((found.imag.numpy(), found.real.numpy()))]


def _theta_only(x: Tensor) -> Tensor:
    return x.new_tensor([1.0, 0.0])


def _psi_only(x: Tensor) -> Tensor:
    return x.new_tensor([0.0, 1.0])
