"""What the tour shows and says: one function per step, computed where it stands."""

import base64
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from torch.distributions import Distribution, MixtureSameFamily

from aigc_lab.minimax import exact, figures, line, modes, toy
from aigc_lab.minimax.figures.canvas import signed
from aigc_lab.minimax.laws import Gaussians
from aigc_lab.minimax.line import Cells
from aigc_lab.minimax.tour import Effort, Picture, Say, Step, Text
from aigc_lab.minimax.toy import Snapshot

N_SAMPLES = 2500
MOMENTS = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Of a game in the plane, at which the strips show it."""
RING_SD, GRID_SD = 0.05, 0.1


def steps(p: Gaussians, q: Gaussians, effort: Effort, say: Say) -> Iterator[Step]:
    """The seven steps, each as soon as it is computed."""
    yield _optimum(p, q)
    say("training a generator and a discriminator on the line")
    law = p.law()
    last = effort.line_steps
    at = sorted({round(last * (i / (effort.frames - 1)) ** 1.5) for i in range(effort.frames)})
    snapshots = line.train_line(law, at=at)
    cells = [line.in_cells(law, snapshot.generator) for snapshot in snapshots]
    yield _algorithm(p, snapshots, cells)
    yield _value(law, snapshots, cells)
    yield _saturation(effort)
    yield _dynamics()
    yield _eigenvalues()
    yield _modes(effort, say)


def _optimum(p: Gaussians, q: Gaussians) -> Step:
    real, fake = p.law(), q.law()
    jsd, value = exact.jensen_shannon(real, fake), exact.minimax_value(real, fake)
    return Step(
        formula="D*(x) = p(x) / (p(x) + q(x))      C(G) = max_D V(D, G) = 2 JSD(p, q) − log 4",
        en=Text(
            "The best discriminator, and what it reaches",
            f"Take p = {p} for the data and q = {q} for the generator. For a fixed generator the best answer "
            f"is the posterior probability that x is real (proposition 1). It reaches {signed(value)}, with "
            f"JSD = {jsd:.6f}: the smaller, the closer q is to p, and −log 4 = −1.386294 only if they are "
            "equal (theorem 1). Any other D falls short by exactly ∫ (p + q) KL(Ber(D*) || Ber(D)): below, "
            "discriminators whose logit is D*'s times a slope s.",
        ),
        zh=Text(
            "最优判别器与它能达到的值",
            f"设数据分布 p = {p}，生成分布 q = {q}。生成器固定时，最优判别器就是“x 为真”的后验概率（命题 1），"
            f"此时 V = {signed(value)}，JSD = {jsd:.6f}。q 越接近 p，该值越小；当且仅当两者相等时等于 −log 4 = "
            "−1.386294（定理 1）。任何其他 D 恰好差 ∫ (p + q) KL(Ber(D*) || Ber(D))：下图中各判别器的 logit 是"
            " D* 的 s 倍。",
        ),
        pictures=(
            _drawn(figures.optimum(real, fake), "both densities and the exact optimal discriminator"),
            _drawn(figures.value_of_slopes(real, fake), "V of other discriminators below C(G), and the exact gap"),
        ),
    )


def _algorithm(p: Gaussians, snapshots: Sequence[Snapshot], cells: Sequence[Cells]) -> Step:
    frames = [figures.figure_one(s, c) for s, c in zip(snapshots, cells, strict=True)]
    first, last = (exact.jensen_shannon(c.p, c.q) for c in (cells[0], cells[-1]))
    k, n = line.LINE_PACE.discriminator_steps, snapshots[-1].step
    return Step(
        formula=f"repeat: {k} steps of D up V(D, G), then one step of G down E_z [log(1 − D(G(z)))]",
        en=Text(
            "Algorithm 1: two networks play",
            f"The paper's own loss, on p = {p}, for {n:,} generator steps. p_g moves along the arrows z → x to "
            "where D is higher. The trained D follows the exact D* of the moment, dashed; where neither law "
            f"has mass it is free to be anything. JSD(p, p_g) went from {first:.4f} to {last:.4f}.",
        ),
        zh=Text(
            "算法 1：两个网络的对弈",
            f"使用论文本来的损失，数据 p = {p}，生成器共 {n:,} 步。p_g 沿箭头 z → x 移向 D 较高处；训练得到的 "
            f"D 追随此刻精确的 D*（虚线）；两个分布都没有质量的地方，D 可取任意值。JSD(p, p_g) 由 {first:.4f} "
            f"变为 {last:.4f}。",
        ),
        pictures=(
            Picture(
                _uri(figures.to_gif(frames), "image/gif"),
                "the paper's first figure, animated: p, p_g, D, D* and the arrows z → x",
                still=_uri(figures.to_png(frames[-1]), "image/png"),
            ),
        ),
    )


def _value(law: Distribution, snapshots: Sequence[Snapshot], cells: Sequence[Cells]) -> Step:
    standings = [line.stand(law, s, c) for s, c in zip(snapshots, cells, strict=True)]
    last = standings[-1]
    gap = last.optimum - last.value
    return Step(
        formula="C(G) − V(D, G) = ∫ (p + p_g) KL(Ber(D*) || Ber(D)) ≥ 0",
        en=Text(
            "The value of the game while it is played",
            f"The same game. V is measured on {line.N_HELD_OUT:,} held-out points; C(G_t) is exact. The shaded "
            "gap is what the discriminator still misses; the distance of C(G_t) from −log 4 is what the "
            f"generator still misses, 2 JSD. At the end V = {signed(last.value, 4)} ± {last.error:.4f} and "
            f"C(G) = {signed(last.optimum, 4)}, a gap of {signed(gap, 4)}. A V near −log 4 alone proves "
            "nothing: a discriminator that always says ½ has it too.",
        ),
        zh=Text(
            "对弈过程中的博弈值",
            f"同一场对弈。V 在 {line.N_HELD_OUT:,} 个留出点上测得，C(G_t) 是精确值。阴影是判别器尚未看出的部分；"
            f"C(G_t) 到 −log 4 的距离是生成器尚差的部分，即 2 JSD。结束时 V = {signed(last.value, 4)} ± "
            f"{last.error:.4f}，C(G) = {signed(last.optimum, 4)}，相差 {signed(gap, 4)}。仅凭 V 接近 −log 4 说"
            "明不了什么：总是回答 ½ 的判别器也是如此。",
        ),
        pictures=(
            _drawn(figures.value_curves(standings), "held-out V, the exact C(G_t) and −log 4 over training"),
        ),
    )


def _saturation(effort: Effort) -> Step:
    separations = [8 * (i + 1) / effort.separations for i in range(effort.separations)]
    return Step(
        formula="minimax: ∇ E_z [log(1 − D(G(z)))]      non-saturating: ∇ E_z [−log D(G(z))]",
        en=Text(
            "Why the paper trains with another loss",
            "N(0, 1) against N(θ, 1), both gradients at D*. As the laws part, D is sure, and the minimax "
            "gradient dies like exp(−θ²/8): it peaks at θ = 1.636. The non-saturating one tends to θ. The "
            "reason is the distance itself: JSD stops at log 2, while the Wasserstein distance keeps its "
            "slope.",
        ),
        zh=Text(
            "论文为何改用另一种损失",
            "N(0, 1) 对 N(θ, 1)，两种梯度都取在 D* 处。两个分布分开后，判别器十分确定，极小极大损失的梯度按 "
            "exp(−θ²/8) 消失（峰值在 θ = 1.636）；非饱和损失的梯度趋于 θ。根源在于距离本身：JSD 止于 log 2，而"
            " Wasserstein 距离的斜率不变。",
        ),
        pictures=(_drawn(figures.saturation(separations), "both gradients, JSD and W1 against separation"),),
    )


def _dynamics() -> Step:
    return Step(
        formula="data at 0, generator at θ, D(x) = ψx:      θ descends and ψ ascends f(θψ) + f(0)",
        en=Text(
            "Why training may circle: the Dirac-GAN",
            "One parameter each (Mescheder et al. 2018). From (1, 1) with step 0.2, 500 steps: the plain game "
            "spirals outwards under simultaneous descent and circles under alternating descent; clipping and "
            "the gradient penalty of WGAN never settle; noise on the data, R1 and consensus optimisation "
            "converge, as their eigenvalues say.",
        ),
        zh=Text(
            "训练为何绕圈：Dirac-GAN",
            "双方各一个参数（Mescheder 等人 2018）。从 (1, 1) 出发，步长 0.2，共 500 步：原始博弈在同步下降时"
            "向外盘旋，交替下降时绕圈；WGAN 的截断与梯度惩罚始终不能停下；数据加噪、R1 与共识优化则收敛，与特"
            "征值的预测一致。",
        ),
        pictures=(_drawn(figures.phase_portraits(), "nine methods in the plane of θ and ψ", svg=False),),
    )


def _eigenvalues() -> Step:
    return Step(
        formula="λ = −γ/2 ± √(γ²/4 − 1/4)",
        en=Text(
            "What R1 does to the eigenvalues",
            "Without a penalty both lie on the imaginary axis: nothing pulls inwards. γ moves them to the "
            "left; at γ = 1 they meet, which is the fastest; beyond, one turns back towards 0 and training "
            "slows down. For too small a γ, a step h of finite size still diverges.",
        ),
        zh=Text(
            "R1 如何移动特征值",
            "没有惩罚时两个特征值都在虚轴上，没有向内的力。γ 把它们推向左边；γ = 1 时相遇，此时最快；再大则其"
            "中一个退回 0 附近，训练变慢。γ 太小时，有限的步长 h 仍会发散。",
        ),
        pictures=(_drawn(figures.eigenvalue_locus(), "eigenvalues and rates against γ"),),
    )


def _modes(effort: Effort, say: Say) -> Step:
    at = [round(moment * effort.plane_steps) for moment in MOMENTS]
    ring, grid = modes.ring(sd=RING_SD), modes.grid(sd=GRID_SD)
    say("training a plain GAN on a ring of 8 modes")
    plain = toy.train_plane(ring, at=at, pace=toy.PLAIN_PACE)
    say("training a relativistic GAN with R1 + R2 on the ring")
    sharp = toy.train_plane(ring, at=at, game=toy.RELATIVISTIC, pace=toy.SHARP_PACE, frequencies=toy.FREQUENCIES)
    say("training it on a grid of 25 modes")
    gridded = toy.train_plane(grid, at=at, game=toy.RELATIVISTIC, pace=toy.GRID_PACE, frequencies=toy.FREQUENCIES)
    return Step(
        formula="C(G) hardly sees one lost mode of 25: JSD = 0.014",
        en=Text(
            "Modes: what the value does not tell",
            f"{N_SAMPLES:,} samples, grey discs of 3 sd. Modes found, the share of samples within a disc, and "
            "the KL of the modes' shares must be read together; dashed, what a perfect sampler scores. A "
            f"plain non-saturating GAN on a ring (sd {RING_SD}), then a relativistic one with R1 + R2 and "
            f"Fourier features in D, then that on a 5 × 5 grid (sd {GRID_SD}). {effort.plane_steps:,} steps "
            "and one seed each: an illustration on modes wider than PacGAN's, no benchmark.",
        ),
        zh=Text(
            "模式：博弈值看不到的东西",
            f"{N_SAMPLES:,} 个样本，灰色圆盘半径为 3 个标准差。找到的模式数、落在圆盘内的比例、各模式份额的 KL "
            f"要放在一起读；虚线是完美采样器的得分。依次为：环（标准差 {RING_SD}）上的普通非饱和 GAN；带 R1 + "
            f"R2、判别器使用傅里叶特征的相对论 GAN；后者用于 5 × 5 网格（标准差 {GRID_SD}）。各 "
            f"{effort.plane_steps:,} 步、一个随机种子：模式比 PacGAN 的宽，仅作说明，并非基准。",
        ),
        pictures=(
            _strip(plain, ring, "Ring of 8: plain non-saturating GAN"),
            _strip(sharp, ring, "Ring of 8: relativistic, R1 + R2, Fourier features"),
            _strip(gridded, grid, "Grid of 25: relativistic, R1 + R2, Fourier features"),
        ),
    )


def _strip(snapshots: Sequence[Snapshot], mixture: MixtureSameFamily, title: str) -> Picture:
    drawn = [(snapshot.step, toy.samples(snapshot, N_SAMPLES)) for snapshot in snapshots]
    return _drawn(figures.mode_strip(drawn, mixture, title=title), title, svg=False)


def _drawn(figure: Figure, alt: str, *, svg: bool = True) -> Picture:
    """SVG where lines are few; PNG where they are many."""
    kind, content = ("image/svg+xml", figures.to_svg(figure)) if svg else ("image/png", figures.to_png(figure))
    return Picture(_uri(content, kind), alt)


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
