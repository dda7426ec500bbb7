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
    FROM_JACOBIAN,
    OFFSET,
    ROWS,
    TERMS,
    Gaussian,
    circular,
    damped_solve,
    gain_px,
    length,
    length_under,
    regressor,
    square_under,
)

_KINDS = 5  # of instruments: nearly ideal; with little, middling and much play; a bad one, which is not trained
_MIRRORS = (1.0, -1.0)
HYPOTHESES = len(_MIRRORS) * _KINDS
_FORGETTING = 0.003
HIDDEN = 16
FEATURES = 8
_CONTROLS = 5
_SHARED_SIZES = {"hidden": HIDDEN, "frames": 1, "stale_count": 2}
"""Numbers of the state that all hypotheses share."""
_SIZES = {
    "log_weight": (1, 1),
    "backlash_px": (1, 1),
    "engaged": (2, 3),  # in this frame and the two before, from the command, which is made anew in each frame
    "side": (2, 2),
    "mean": (ROWS, 1),
    "covariance": (ROWS, TERMS),
}
"""Of each hypothesis."""
_LENGTHS = tuple(math.prod(size) for size in _SIZES.values())
_NOW_AND_LAST = torch.tensor([[0.0, -1.0]])
_NOW = torch.zeros(1, 1)
_DIFFERENCES = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]])
_LAST_MOVE = _DIFFERENCES[:2, :1]
_PLUS_LESS_MINUS = torch.tensor(_MIRRORS)[:, None, None]
_FAVOURED = torch.tensor([4.0, 0.0])[:, None, None]
"""Of two mirrors that are as likely, the bet is on the first."""
_PROBE = torch.tensor([[1.0], [0.0]])
_CONTROL_SCALE = torch.tensor([1.0, 1.0, 1.0, 0.2, 0.3])
_SIZE_FLOORS = torch.tensor([0.05, 0.05, 0.1, 0.02])
_SIZE_SCALES = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0])
_OF_OFFSET = torch.zeros(ROWS, 1)
_OF_OFFSET[[0, TERMS]] = 1.0
_OF_JACOBIAN = FROM_JACOBIAN.abs().amax(-1, keepdim=True).sign()
STATE_SIZE = sum(_SHARED_SIZES.values()) + HYPOTHESES * sum(_LENGTHS)


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What the policy says after a frame; n worlds.

    Attributes:
        move: (n, 2), to add to the command.
        state: (n, STATE_SIZE).
        estimate_px: (n, 2), where the disk is now, from all frames.
        doubt_px: (n, 1), expected root-mean-square distance to the target after the move.
        miss_chance: (n, 1), bound on the chance that this distance is beyond the tolerance.
        jacobian: (n, 4), px a unit, row by row.
        log_evidence: (n,), log density of this frame's measurement given the earlier ones.
        weight, ahead_px, variance_px2: (n, K), (n, K, 2) and (n, K), where the filters see the disk after the move: a
            mixture of circular Gaussians, the variance of both axes together.
    """

    move: Tensor
    state: Tensor
    estimate_px: Tensor
    doubt_px: Tensor
    jacobian: Tensor
    log_evidence: Tensor
    miss_chance: Tensor
    weight: Tensor
    ahead_px: Tensor
    variance_px2: Tensor


def _log(x: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(math.log(x)))


def _logs(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.log(torch.tensor(values)))


def each_hypothesis(values: Tensor) -> Tensor:
    """One value a kind, for each hypothesis (K, 1, 1).

    The last one is not learned: what the bad kind stands for is not among the worlds of the training.
    """
    return torch.cat([values[:-1], values[-1:].detach()]).repeat(len(_MIRRORS))[:, None, None]


def each_kind(logs: Tensor) -> Tensor:
    """As :func:`each_hypothesis` for values that are given by their logarithms."""
    return each_hypothesis(logs).exp()


class BeliefPolicy(nn.Module):
    """Shapes: ``error_px`` (n, 2), ``sigma_px`` (n, 1), ``limits_px`` (n, 4) = lowest (y, x), highest (y, x) from the
    target, ``known_jacobian`` (n, 4), zeros when it is not known; ``tolerance_px`` (n, 1); ``state`` (n, STATE_SIZE),
    zeros at the start."""

    def __init__(self) -> None:
        super().__init__()
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

    def _prior(self, error_px: Tensor, known_jacobian: Tensor, is_known: Tensor, noise: Tensor) -> Gaussian:
        """What is known after the first frame."""
        wide = ((NOMINAL_GAIN_PX * self.gain_log.exp()) ** 2).expand(_KINDS, 1, 1)
        narrow = (NOMINAL_GAIN_PX * each_kind(self.shear)[:_KINDS]) ** 2
        others = [each_kind(logs) ** 2 for logs in (self.drift_px, self.creep_spread, self.backlash_spread_px)]
        z, s = torch.cat([wide, narrow]), torch.cat([narrow, wide])
        blind = torch.cat([0 * z, z, s, *others], -2).repeat(1, 2, 1)
        sure = known_jacobian.square().sum(-2, keepdim=True) / 2 * self.known_log.exp() ** 2
        diagonal = blind * (1 - is_known * _OF_JACOBIAN) + sure * _OF_JACOBIAN + noise * _OF_OFFSET
        return Gaussian(OFFSET @ error_px + FROM_JACOBIAN @ known_jacobian, diagonal * torch.eye(ROWS))

    def forward(
        self,
        error_px: Tensor,
        sigma_px: Tensor,
        limits_px: Tensor,
        known_jacobian: Tensor,
        tolerance_px: Tensor,
        state: Tensor,
    ) -> Answer:
        # Four axes from here on: worlds, hypotheses, and the rows and columns of vectors and matrices.
        error = error_px[:, None, :, None]
        sigma = sigma_px[:, None, None].clamp(0.005, 100.0)
        lowest, highest = limits_px.reshape(-1, 1, 2, 2).transpose(-1, -2).chunk(2, -1)
        known = known_jacobian[:, None, :, None]
        sizes = [*_SHARED_SIZES.values(), HYPOTHESES * sum(_LENGTHS)]
        hidden, frames, stale_count, own = torch.split_with_sizes(state, sizes, -1)
        frame, stale_count = frames[:, None, None], stale_count[:, None, None]
        parts = torch.split_with_sizes(own.reshape(-1, HYPOTHESES, sum(_LENGTHS)), _LENGTHS, -1)
        log_weight, backlash_px, engaged, side, mean, covariance = (
            part.reshape(-1, HYPOTHESES, *size) for part, size in zip(parts, _SIZES.values(), strict=True)
        )
        is_first, is_second = frame < 0.5, (frame - 1).abs() < 0.5
        later = 1 - is_first.to(error.dtype)
        creeps = each_kind(self.creep)
        noise = 2 * (sigma.square() + self.noise_log.exp() ** 2)  # px^2
        is_known = (known.square().sum(-2, keepdim=True) > 0).to(error.dtype)
        prior = self._prior(error, known, is_known, noise)
        before = prior.where(is_first, Gaussian(mean, circular(covariance)))
        backlash_px = torch.where(is_first, each_kind(self.backlash_px), backlash_px)

        # The frame was fresh or stale, or the disk has jumped.
        jacobian = before.jacobian
        last_moves = engaged @ _DIFFERENCES
        moved_px = jacobian @ last_moves
        # In the second frame only the frame itself tells how far the disk has moved.
        shown_px = error - before.offset - jacobian @ engaged[..., 1:2]
        moved_px = torch.cat([torch.where(is_second, shown_px, moved_px[..., :1]), moved_px[..., 1:]], -1)
        now_and_last = regressor(
            _NOW_AND_LAST, engaged[..., :2] - creeps * last_moves, moved_px, jacobian @ side / gain_px(jacobian)
        )
        stale_frames, fresh_frames = each_kind(self.stale_frames), each_kind(self.fresh_frames)
        seen_stale, seen = stale_count[..., :1], stale_count[..., 1:]
        stale = (stale_frames + seen_stale) / (stale_frames + fresh_frames + seen)
        jump = self.jump_chance.exp().expand_as(stale)
        chances = torch.log(torch.cat([1 - stale - jump, stale, jump], -1))
        updated, evidence, share, surprise2 = before.update(
            now_and_last, error, noise, self.jump_px.exp() ** 2, chances
        )
        belief = prior.where(is_first, updated)
        first_weight = torch.log_softmax(each_hypothesis(self.prior_logit), 0)
        log_weight = torch.where(is_first, first_weight, log_weight)
        scores = log_weight + later * evidence
        log_evidence = later * torch.logsumexp(log_weight + evidence, 1, keepdim=True)
        weight = torch.softmax(scores, 1)
        # No hypothesis is ever given up: the grid is coarse, and what fits best may change.
        log_weight = torch.log((1 - _FORGETTING) * weight + _FORGETTING / HYPOTHESES)
        stale_share = later * (weight * share[..., 1:2]).sum(1, keepdim=True)
        stale_count = stale_count + torch.cat([stale_share, later], -1)

        # Linearise anew around what w has turned out to be, so that the play is followed with it.
        found = (backlash_px + belief.backlash_error).clamp(0.0, 6.0) - backlash_px
        backlash_px = backlash_px + found
        belief = belief.without_backlash_error(found)
        jacobian, unsure = belief.jacobian, belief.jacobian_metric
        gain = gain_px(jacobian)
        engaged = engaged[..., :2] + side * (found / gain)
        engaged_now, last_move, side_now = engaged[..., :1], engaged @ _LAST_MOVE, side[..., :1]
        each_here = belief.position(
            regressor(_NOW, engaged_now - creeps * last_move, jacobian @ last_move, jacobian @ side_now / gain)
        )

        # What the recurrent net sees is the same for any rotation and mirror.
        estimate = (weight * each_here).sum(1, keepdim=True)
        kinds = weight.reshape(-1, len(_MIRRORS), _KINDS, 1, 1)
        mirror_weight = kinds.sum(2)
        lengths = torch.cat(
            [length(error), length(estimate), (weight * surprise2[..., :1]).sum(1, keepdim=True), sigma], -1
        )
        seen_parts = [
            torch.log(lengths + _SIZE_FLOORS) * _SIZE_SCALES,
            stale_share,
            (weight * stale).sum(1, keepdim=True),
            (mirror_weight * _PLUS_LESS_MINUS).sum(1, keepdim=True).abs(),
            torch.clamp(frame, max=8.0) / 8,
        ]
        features = torch.cat(seen_parts, -1).flatten(1)
        hidden = self.gru(features, hidden)
        control = self.control(torch.cat([hidden, features], -1)).clamp(-4.0, 4.0)[:, None, None]
        caution, lead, reversal, stretch, actuation = (
            (control * _CONTROL_SCALE + self._control_offset()).exp().split(1, -1)
        )

        # The command that settles the disk on the target in the next frame, for each filter.
        creep = (creeps + belief.creep_error).clamp(0.0, 0.4)
        play = backlash_px / gain
        unmoved = belief.offset + belief.drift + jacobian @ engaged_now
        away = -damped_solve(jacobian, caution * unsure, unmoved) * (1 + lead / (1 + lead) * creep / (1 - creep))
        each = engaged_now + away + play * torch.tanh(away * gain / reversal)
        # Within a mirror the filters are averaged; between the mirrors one is chosen, for their mean is no good for
        # either.
        mirror_move = (kinds * each.reshape(-1, len(_MIRRORS), _KINDS, 2, 1)).sum(2) / (mirror_weight + 1e-9)
        choice = torch.softmax(8 * torch.log(mirror_weight + 1e-6) + _FAVOURED, 1)
        move = (choice * mirror_move).sum(1, keepdim=True) * stretch
        room = torch.minimum(highest - error, error - lowest).amin(-2, keepdim=True)
        probe = torch.minimum(self.probe_log.exp(), (room - 16).clamp_min(10.0) / (2.2 * NOMINAL_GAIN_PX))
        is_blind = is_first & (is_known < 0.5)

        # Hold the move back so that no plausible filter sees the disk leave the screen.
        step = jacobian @ move
        reach = step.abs() + length_under(move, unsure)
        edge = torch.where(step > 0, 0.95 * highest - each_here, each_here - 0.95 * lowest)
        fraction = (edge.clamp_min(5.0) / (reach + 1e-3)).amin(-2, keepdim=True) + 1e3 * (weight < 1e-3).to(step.dtype)
        move = torch.where(is_blind, probe * _PROBE, fraction.amin(1, keepdim=True).clamp(max=1.0) * move)
        size = (move.square().sum(-2, keepdim=True) + 1e-14).sqrt()
        move = move * (1.5 / size).clamp(max=1.0)

        # Predict the next frame.
        low, high = move - play, move + play
        engaged_next = torch.maximum(torch.minimum(engaged_now, high), low)
        moved = engaged_next - engaged_now
        # An axis that moves is at the end of its play.
        side_next = torch.where(moved.abs() > 0, -moved.sign(), side_now)
        moved2 = (jacobian @ moved).square().sum(-2, keepdim=True) + square_under(moved, unsure)
        walk = 2 * each_kind(self.walk_px) ** 2 + (each_kind(self.actuation) * actuation) ** 2 * moved2
        belief = belief.widened(walk).at(move)
        engaged = torch.cat([engaged_next, engaged], -1) - move
        ahead = regressor(_NOW, engaged[..., :1] - creeps * moved, jacobian @ moved, jacobian @ side_next / gain)
        position, variance = belief.position(ahead), belief.variance(ahead).clamp_min(1e-6)
        doubt = (weight * (position.square().sum(-2, keepdim=True) + variance)).sum(1).sqrt()
        # Of a circular Gaussian the part beyond r is at most exp(-(r - |mean|)^2 / variance), and just that for a mean
        # of zero (a bound on Marcum's Q: Simon & Alouini, IEEE Trans. Commun. 48 (2000) 359).
        inside = torch.relu(tolerance_px[:, None, :, None] - length(position))
        miss_chance = (weight * torch.exp(-inside.square() / variance)).sum(1)
        chosen = (kinds * choice[:, :, None]).reshape(-1, HYPOTHESES, 1, 1)
        best = (chosen * jacobian).sum(1) / (chosen.sum(1) + 1e-9)
        new = [
            log_weight,
            backlash_px,
            engaged,
            torch.cat([side_next, side_now], -1),
            belief.mean,
            belief.covariance[..., :TERMS],
        ]
        own = torch.cat([part.flatten(2) for part in new], -1).flatten(1)
        packed = torch.cat([hidden, frames + 1, stale_count.flatten(1), own], -1)
        return Answer(
            move.flatten(1),
            packed,
            estimate.flatten(1),
            doubt.flatten(1),
            best.flatten(1),
            log_evidence.flatten(),
            miss_chance.flatten(1),
            weight.flatten(1),
            position.flatten(2),
            variance.flatten(1),
        )

    def _control_offset(self) -> Tensor:
        """Logarithms of what the GRU's controls are factors of (5,)."""
        zero = torch.zeros(())
        return torch.stack([self.caution_log, self.lead_logit, self.reversal_log, zero, zero])
