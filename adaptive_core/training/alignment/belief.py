"""The hybrid policy: a bank of Kalman filters over what a diffraction shift may be like, its weights learned.

With positions and commands as complex numbers y + i x, the disk is at ``p = a + z v + s conj(v) + d t`` in frame t: z
turns and scales the command v that has arrived, s does so in a mirror, d is the drift. Of a move, the part c arrives
one frame late (``v = b - c (b - b_last)``), and b follows the command u with a play of w px. What makes the control
awkward are the mirror (either z or s is the small one), the play, and frames that are stale (they show the last v and
t).

For each mirror and each of five kinds of instruments (a nearly ideal one, three with more or less play, and a bad one
that keeps its first values), ``(a, z, s, d)`` and the errors of c and w, linearised, are circularly Gaussian, so that a
Kalman filter with a 6 x 6 Hermitian covariance tracks them; three branches (fresh, stale, a jump that nothing here
explains) are merged by their moments (generalised pseudo-Bayes). The command is the one that settles the disk on the
target for the weighted filters, held back so that no plausible filter sees it leave the screen.

Everything that is a number here (grid, priors, noise, sharpness, step) is a parameter, and a GRU that sees only
rotation-invariant features changes the most useful ones from frame to frame; all are trained by back-propagation
through the simulator. Lengths are in px of a 1024 px screen, commands in units of about 512 px.

Learning a recursive filter by back-propagation: Haarnoja et al., Backprop KF (2016); Jonschkowski et al. (2018).
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from adaptive_core.simulation.shift_world import NOMINAL_GAIN_PX
from adaptive_core.training.alignment.gaussian import (
    TERMS,
    Gaussian,
    Moment,
    damped_solve,
    gain_px,
    length,
    length_under,
    times,
)

_KINDS = 5  # of instruments: nearly ideal; with little, middling and much play; a bad one, which is not trained
_MIRRORS = (1.0, -1.0)
HYPOTHESES = len(_MIRRORS) * _KINDS
_FORGETTING = 0.003
HIDDEN = 16
FEATURES = 8
_CONTROLS = 5
_SIZES = {
    "hidden": (HIDDEN,),
    "command": (2,),
    "frames": (1,),
    "stale_count": (2,),
    "log_weight": (HYPOTHESES,),
    "mean_y": (HYPOTHESES, TERMS),
    "mean_x": (HYPOTHESES, TERMS),
    "covariance_re": (HYPOTHESES, TERMS, TERMS),
    "covariance_im": (HYPOTHESES, TERMS, TERMS),
    "backlash_px": (HYPOTHESES, 1),
    "engaged": (HYPOTHESES, 2),
    "engaged_before": (HYPOTHESES, 2),
    "engaged_earlier": (HYPOTHESES, 2),
    "side": (HYPOTHESES, 2),
    "side_before": (HYPOTHESES, 2),
}
_KIND_VALUES = (
    "prior_logit",
    "creep",
    "creep_spread",
    "backlash_px",
    "backlash_spread_px",
    "shear",
    "drift_px",
    "walk_px",
    "actuation",
    "stale_frames",
    "fresh_frames",
)
STATE_SIZE = sum(math.prod(size) for size in _SIZES.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What the policy says after a frame; n worlds.

    Attributes:
        move: (n, 2), to add to the command.
        state: (n, STATE_SIZE).
        estimate_px: (n, 2), where the disk is now, from all frames.
        doubt_px: (n, 1), expected root-mean-square distance to the target after the move.
        jacobian: (n, 4), px a unit, row by row.
        log_evidence: (n,), log density of this frame's measurement given the earlier ones.
    """

    move: Tensor
    state: Tensor
    estimate_px: Tensor
    doubt_px: Tensor
    jacobian: Tensor
    log_evidence: Tensor


def _log(x: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(math.log(x)))


def _logs(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.log(torch.tensor(values)))


def each_kind(logs: Tensor) -> Tensor:
    """One value a kind, for each hypothesis (K,)."""
    return logs.exp().repeat(len(_MIRRORS))


class BeliefPolicy(nn.Module):
    """Shapes: ``error_px`` (n, 2), ``sigma_px`` (n, 1), ``limits_px`` (n, 4) = lowest (y, x), highest (y, x) from the
    target, ``known_jacobian`` (n, 4), zeros when it is not known; ``state`` (n, STATE_SIZE), zeros at the start."""

    mirror: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mirror", torch.tensor(_MIRRORS).repeat_interleave(_KINDS))
        self.prior_logit = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0, -2.5]))
        self.gain_log = _log(1.16)
        self.known_log = _log(0.08)
        self.noise_log = _log(0.05)
        self.creep = _logs(0.003, 0.06, 0.06, 0.06, 0.15)
        self.creep_spread = _logs(0.005, 0.045, 0.045, 0.045, 0.1)
        self.backlash_px = _logs(0.05, 0.25, 0.75, 1.25, 2.0)
        self.backlash_spread_px = _logs(0.02, 0.2, 0.2, 0.25, 0.7)
        self.shear = _logs(0.006, 0.07, 0.07, 0.07, 0.13)
        self.drift_px = _logs(0.01, 0.1, 0.1, 0.1, 0.25)
        self.walk_px = _logs(0.06, 0.08, 0.08, 0.08, 0.1)
        self.actuation = _logs(0.02, 0.02, 0.02, 0.02, 0.05)
        self.stale_frames = _logs(0.02, 0.6, 0.6, 0.6, 1.2)
        self.fresh_frames = _logs(20.0, 4.0, 4.0, 4.0, 2.5)
        self.jump_chance = _log(0.004)
        self.jump_px = _log(20.0)
        self.caution_log = _log(0.1)
        self.lead_logit = nn.Parameter(torch.tensor(0.0))
        self.reversal_log = _log(0.3)
        self.probe_log = _log(0.12)
        self.gru = nn.GRUCell(FEATURES, HIDDEN)
        self.control = nn.Linear(HIDDEN + FEATURES, _CONTROLS)
        nn.init.normal_(self.control.weight, std=0.01)
        nn.init.zeros_(self.control.bias)

    def keep_bad_kind(self) -> None:
        """Drop the gradients of the last kind's values: what it stands for is not among the worlds of the training."""
        for name in _KIND_VALUES:
            gradient = getattr(self, name).grad
            if gradient is not None:
                gradient[-1] = 0.0

    def _unpack(self, state: Tensor) -> dict[str, Tensor]:
        parts, start = {}, 0
        for name, size in _SIZES.items():
            stop = start + math.prod(size)
            parts[name] = state[:, start:stop].reshape(-1, *size)
            start = stop
        return parts

    def _prior(self, error_px: Tensor, known_jacobian: Tensor, noise: Tensor) -> Gaussian:
        """What is known after the first frame."""
        turned = (self.mirror > 0).to(error_px.dtype)
        wide = (NOMINAL_GAIN_PX * self.gain_log.exp()) ** 2
        narrow = (NOMINAL_GAIN_PX * each_kind(self.shear)) ** 2
        yy, yx, xy, xx = (known_jacobian[:, None, i : i + 1] for i in range(4))
        size2 = known_jacobian.square().sum(-1, keepdim=True) / 2
        is_known = (size2 > 0).to(size2.dtype)
        sure = is_known * size2 * self.known_log.exp() ** 2
        z = sure + (1 - is_known) * (turned * wide + (1 - turned) * narrow)
        s = sure + (1 - is_known) * (turned * narrow + (1 - turned) * wide)
        like = torch.zeros_like(z)
        spreads = [each_kind(logs) ** 2 for logs in (self.drift_px, self.creep_spread, self.backlash_spread_px)]
        diagonal = torch.stack([like + noise, z, s, *(like + spread for spread in spreads)], -1)
        y = (
            torch.cat([error_px[:, None, :1], (yy + xx) / 2, (yy - xx) / 2, 0 * yy, 0 * yy, 0 * yy], -1)
            + like[..., None]
        )
        x = (
            torch.cat([error_px[:, None, 1:], (xy - yx) / 2, (xy + yx) / 2, 0 * yy, 0 * yy, 0 * yy], -1)
            + like[..., None]
        )
        covariance = diagonal[..., None] * torch.eye(TERMS)
        return Gaussian(y, x, covariance, torch.zeros_like(covariance))

    def forward(
        self, error_px: Tensor, sigma_px: Tensor, limits_px: Tensor, known_jacobian: Tensor, state: Tensor
    ) -> Answer:
        s = self._unpack(state)
        frame = s["frames"]
        sigma_px = sigma_px.clamp(0.005, 100.0)
        first = (frame < 0.5).to(error_px.dtype)  # (n, 1)
        later = 1 - first
        mean_creep = each_kind(self.creep)[:, None]
        backlash_px = first[..., None] * each_kind(self.backlash_px)[:, None] + later[..., None] * s["backlash_px"]
        noise = 2 * (sigma_px.square() + self.noise_log.exp() ** 2)  # (n, 1), px^2
        prior = self._prior(error_px, known_jacobian, noise)
        before = prior.chosen(first, Gaussian(s["mean_y"], s["mean_x"], s["covariance_re"], s["covariance_im"]))

        # The frame was fresh or stale, or the disk has jumped.
        now = Moment(s["engaged"], s["engaged_before"], s["side"], frame)
        last = Moment(s["engaged_before"], s["engaged_earlier"], s["side_before"], frame - 1)
        # In the second frame only the frame itself tells how far the disk has moved.
        second = ((frame - 1).abs() < 0.5).to(error_px.dtype)[..., None]
        shown = error_px[:, None] - before.offset(frame)
        predicted = times(before.jacobian, s["engaged"] - s["engaged_before"])
        here = now.regressor(before, mean_creep, second * shown + (1 - second) * predicted)
        there = last.regressor(before, mean_creep)
        stale_count = s["stale_count"]
        stale_frames, fresh_frames = each_kind(self.stale_frames), each_kind(self.fresh_frames)
        stale = (stale_frames + stale_count[:, :1]) / (stale_frames + fresh_frames + stale_count[:, 1:])
        jump = self.jump_chance.exp() + 0 * stale
        chances = torch.log(torch.stack([1 - stale - jump, stale, jump], 1))
        jumps = torch.stack([0 * jump, 0 * jump, 0 * jump + self.jump_px.exp() ** 2], 1)  # (n, 3, K)
        branches, log_density, surprises2 = before.branched(jumps).update(
            (torch.stack([here[0], there[0], here[0]], 1), torch.stack([here[1], there[1], here[1]], 1)),
            error_px[:, None, None],
            noise[:, None],
        )
        evidence = torch.logsumexp(log_density + chances, 1)  # (n, K)
        share = torch.softmax(log_density + chances, 1)  # (n, 3, K)
        belief = prior.chosen(first, branches.merged(share))
        surprise2 = surprises2[:, 0]
        log_weight = torch.log_softmax(first * self.prior_logit.repeat(len(_MIRRORS)) + later * s["log_weight"], -1)
        log_evidence = later[:, 0] * torch.logsumexp(log_weight + evidence, -1)
        weight = torch.softmax(log_weight + later * evidence, -1)[..., None]  # (n, K, 1)
        # No hypothesis is ever given up: the grid is coarse, and what fits best may change.
        log_weight = torch.log((1 - _FORGETTING) * weight[..., 0] + _FORGETTING / HYPOTHESES)
        stale_share = later * (weight * share[:, 1, :, None]).sum(1)
        stale_count = stale_count + torch.cat([stale_share, later], -1)

        # Linearise anew around what w has turned out to be, so that the play is followed with it.
        found = (backlash_px + belief.y[..., 5:6]).clamp(0.0, 6.0) - backlash_px
        slip = found / gain_px(belief.jacobian)
        backlash_px = backlash_px + found
        engaged_now, engaged_before = s["engaged"] + s["side"] * slip, s["engaged_before"] + s["side_before"] * slip
        belief = belief.shifted(found)
        now = Moment(engaged_now, engaged_before, s["side"], frame)

        # What the recurrent net sees is the same for any rotation and mirror.
        each_here = belief.position(now.regressor(belief, mean_creep))
        estimate_px = (weight * each_here).sum(1)
        plus = (self.mirror > 0).to(error_px.dtype)[:, None]
        weight_plus, weight_minus = (weight * plus).sum(1), (weight * (1 - plus)).sum(1)
        features = torch.cat(
            [
                torch.log(length(error_px) + 0.05) / 3,
                torch.log(length(estimate_px) + 0.05) / 3,
                later * torch.log((weight[..., 0] * surprise2).sum(1, keepdim=True) + 0.1) / 3,
                stale_share,
                (weight[..., 0] * stale).sum(1, keepdim=True),
                (weight_plus - weight_minus).abs(),
                torch.log(sigma_px + 0.02),
                torch.clamp(frame, max=8.0) / 8,
            ],
            -1,
        )
        hidden = self.gru(features, s["hidden"])
        control = self.control(torch.cat([hidden, features], -1)).clamp(-4.0, 4.0)

        # The command that settles the disk on the target in the next frame, for each filter.
        jacobian, unsure = belief.jacobian, belief.jacobian_metric
        caution = (self.caution_log + control[:, :1]).exp()[..., None, None]
        lead = torch.sigmoid(self.lead_logit + control[:, 1:2])[..., None]
        gain = gain_px(jacobian)
        creep = (mean_creep + belief.y[..., 4:5]).clamp(0.0, 0.4)
        play = backlash_px / gain
        unmoved = belief.offset(frame + 1) + times(jacobian, engaged_now)
        away = -damped_solve(jacobian, caution * unsure, unmoved) * (1 + lead * creep / (1 - creep))
        reversal = (self.reversal_log + control[:, 2:3]).exp()[..., None] / gain
        each = engaged_now + away + play * torch.tanh(away / reversal) - s["command"][:, None]
        # Within a mirror the filters are averaged; between the mirrors one is chosen, for their mean is no good for
        # either.
        move_plus = (weight * plus * each).sum(1) / (weight_plus + 1e-9)
        move_minus = (weight * (1 - plus) * each).sum(1) / (weight_minus + 1e-9)
        choice = torch.sigmoid(8 * (torch.log(weight_plus + 1e-6) - torch.log(weight_minus + 1e-6)) + 4)
        move = (choice * move_plus + (1 - choice) * move_minus) * torch.exp(0.2 * control[:, 3:4])
        known = (known_jacobian.square().sum(-1, keepdim=True) > 0).to(first.dtype)
        room = torch.minimum(limits_px[:, 2:] - error_px, error_px - limits_px[:, :2]).amin(-1, keepdim=True)
        probe = torch.minimum(self.probe_log.exp() + 0 * room, (room - 16).clamp_min(10.0) / (2.2 * NOMINAL_GAIN_PX))
        blind = first * (1 - known)
        move = blind * torch.cat([probe, 0 * probe], -1) + (1 - blind) * move

        # Hold the move back so that no plausible filter sees the disk leave the screen.
        step = times(jacobian, move[:, None])
        reach = step.abs() + length_under(move[:, None], unsure)
        edge = torch.where(
            step > 0, 0.95 * limits_px[:, None, 2:] - each_here, each_here - 0.95 * limits_px[:, None, :2]
        )
        fraction = (edge.clamp_min(5.0) / (reach + 1e-3)).amin(-1) + 1e3 * (weight[..., 0] < 1e-3).to(step.dtype)
        fraction = fraction.amin(-1, keepdim=True).clamp(max=1.0)
        move = blind * move + (1 - blind) * fraction * move
        size = (move.square().sum(-1, keepdim=True) + 1e-14).sqrt()
        move = move * (1.5 / size).clamp(max=1.0)

        # Predict the next frame.
        command = s["command"] + move
        low, high = command[:, None] - play, command[:, None] + play
        engaged = torch.maximum(torch.minimum(engaged_now, high), low)
        pushed_up = (engaged_now < low).to(engaged.dtype)
        pushed_down = (engaged_now > high).to(engaged.dtype)
        side = (1 - pushed_up - pushed_down) * s["side"] - pushed_up + pushed_down
        moved = engaged - engaged_now
        moved2 = times(jacobian, moved).square().sum(-1) + 2 * length_under(moved, unsure)[..., 0].square()
        actuation = each_kind(self.actuation) * torch.exp(0.3 * control[:, 4:5])
        walk = 2 * each_kind(self.walk_px) ** 2 + actuation**2 * moved2  # (n, K)
        belief = belief.widened(walk)
        ahead = Moment(engaged, engaged_now, side, frame + 1).regressor(belief, mean_creep)
        squared = belief.position(ahead).square().sum(-1) + belief.variance(ahead).clamp_min(0.0)
        doubt_px = (weight[..., 0] * squared).sum(1, keepdim=True).sqrt()
        chosen = weight * (choice[:, None] * plus + (1 - choice[:, None]) * (1 - plus))
        best = (chosen * jacobian).sum(1) / (chosen.sum(1) + 1e-9)
        new = {
            "hidden": hidden,
            "command": command,
            "frames": frame + 1,
            "stale_count": stale_count,
            "log_weight": log_weight,
            "mean_y": belief.y,
            "mean_x": belief.x,
            "covariance_re": belief.re,
            "covariance_im": belief.im,
            "backlash_px": backlash_px,
            "engaged": engaged,
            "engaged_before": engaged_now,
            "engaged_earlier": engaged_before,
            "side": side,
            "side_before": s["side"],
        }
        packed = torch.cat([new[name].flatten(1) for name in _SIZES], -1)
        return Answer(move, packed, estimate_px, doubt_px, best, log_evidence)
