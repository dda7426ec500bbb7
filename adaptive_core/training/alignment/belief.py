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
from torch.nn import functional

from adaptive_core.simulation.shift_world import NOMINAL_GAIN_PX
from adaptive_core.training.alignment.gaussian import (
    BRANCHES,
    COLUMNS,
    FROM_JACOBIAN,
    OFFSET,
    TERMS,
    Gaussian,
    circular,
    regressor,
    symmetric_solve,
)

_KINDS = 5  # of instruments: nearly ideal; with little, middling and much play; a bad one, which is not trained
_MIRRORS = 2
HYPOTHESES = _MIRRORS * _KINDS
_FORGETTING = 3e-4
HIDDEN = 16
FEATURES = 8
_CONTROLS = 5
_SHARED_SIZES = {"hidden": HIDDEN, "frames": 1, "stale_count": 1}
"""Numbers of the state that all hypotheses share."""
_OWN_ROWS = {"others": 1, "mean": 1, "covariance": TERMS}
"""Rows of 12 of each hypothesis: the others are the logarithm of its weight, the play in px, where the play's middle
was in this frame and the two before, from the command, which is made anew in each frame, and the signs of the last two
moves of each axis."""
_OWN_SIZE = sum(_OWN_ROWS.values()) * COLUMNS
STATE_SIZE = sum(_SHARED_SIZES.values()) + HYPOTHESES * _OWN_SIZE
# Of the engaged commands (now, last, the one before) and pushes (now, last), rows for the branches:
_COMMANDS = torch.tensor([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
_MOVES = torch.tensor([[1.0, -1, 0, 0, 0], [0, 1, -1, 0, 0], [1, -1, 0, 0, 0]])
_PUSHES = torch.tensor([[0.0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0]])
_LAST = torch.tensor([[0.0, 1, 0, 0, 0]])
_TIMES = torch.tensor([0.0, -1.0, 0.0])
_IS_SECOND = torch.tensor([1.0, -1.0, 1.0])
"""Number of the second frame for the branches for which it is special."""
_STALE = torch.tensor([[-1.0], [1.0], [0.0]])
"""What a chance of staleness adds to the chances of the branches."""
_SHARPNESS = 8
_FAVOURED = torch.tensor([[55.0], [1.0]])
"""Of two mirrors that are as likely, the bet is on the first."""
_PROBE = torch.tensor([1.0, 0.0])
_LARGEST_GAIN_PX = 2.2 * NOMINAL_GAIN_PX
_RIM_PX = 16.0
_SAFE = 0.95
_LIMITS = torch.zeros(6, 16)
"""Of the error and the limits (6), to the largest safe probe toward each edge (4), safe limits (4), and the error
again, and for y and x of each branch (8)."""
_LIMITS[:2, :4] = torch.tensor([[1.0, 0, -1, 0], [0, 1, 0, -1]]) / _LARGEST_GAIN_PX
_LIMITS[2:, :4] = torch.diag(torch.tensor([-1.0, -1, 1, 1])) / _LARGEST_GAIN_PX
_LIMITS[2:, 4:8] = _SAFE * torch.eye(4)
_LIMITS[:2, 8:] = torch.eye(2).repeat(1, 1 + BRANCHES)
_LIMITS_OFFSET = torch.cat([torch.full((4,), -_RIM_PX / _LARGEST_GAIN_PX), torch.zeros(12)])
_CONTROL_SCALES = torch.tensor([1.0, 1.0, 1.0, 0.2, 0.6])
_SIZE_FLOORS = torch.tensor([0.05, 0.05, 0.1, 0.02])
_SIZE_SCALES = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0])
_OF_JACOBIAN = FROM_JACOBIAN.abs().amax(0).sign()
_OF_OFFSET = OFFSET.sum(0)


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What the policy says after a frame; n worlds.

    Attributes:
        move: (n, 2), to add to the command.
        state: (n, STATE_SIZE).
        estimate_px: (n, 2), where the disk is now, from all frames.
        miss_chance: (n, 1), bound on the chance that the distance from the target after the move is beyond the
            tolerance.
        jacobian: (n, 4), px a unit, row by row.
        log_evidence: (n,), log density of this frame's measurement given the earlier ones.
        weight, ahead_px, variance_px2: (n, K), (n, K, 2) and (n, K), where the filters see the disk after the move: a
            mixture of circular Gaussians, the variance of both axes together.
    """

    move: Tensor
    state: Tensor
    estimate_px: Tensor
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
    """One value a kind, for each hypothesis (K, 1).

    The last one is not learned: what the bad kind stands for is not among the worlds of the training.
    """
    return torch.cat([values[:-1], values[-1:].detach()]).repeat(_MIRRORS)[:, None]


def each_kind(logs: Tensor) -> Tensor:
    """As :func:`each_hypothesis` for values that are given by their logarithms."""
    return each_hypothesis(logs).exp()


class BeliefPolicy(nn.Module):
    """Shapes: ``error_px`` (n, 2), ``sigma_px`` (n, 1), ``limits_px`` (n, 4) = lowest (y, x), highest (y, x) from the
    target, ``known_jacobian`` (n, 4), zeros when it is not known; ``tolerance_px`` (n, 1); ``largest_move`` (n, 1),
    length of the longest that will be made; ``state`` (n, STATE_SIZE), zeros at the start."""

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
        self.lead_log = _log(0.5)
        self.reversal_log = _log(0.3)
        self.probe_log = _log(0.12)
        self.gru = nn.GRU(FEATURES, HIDDEN)
        self.control = nn.Linear(HIDDEN + FEATURES, _CONTROLS)
        nn.init.normal_(self.control.weight, std=0.01)
        nn.init.zeros_(self.control.bias)

    def _prior(self) -> Tensor:
        """(10, K * 96), by which 1, error, known Jacobian, whether it is known, its square and the variance of the
        error make the states of the hypotheses in the first frame."""
        wide = ((NOMINAL_GAIN_PX * self.gain_log.exp()) ** 2).expand(_KINDS, 1)
        narrow = (NOMINAL_GAIN_PX * each_kind(self.shear)[:_KINDS]) ** 2
        others = [each_kind(logs) ** 2 for logs in (self.drift_px, self.creep_spread, self.backlash_spread_px)]
        z, s = torch.cat([wide, narrow]), torch.cat([narrow, wide])
        blind = torch.cat([0 * z, z, s, *others], 1).repeat(1, 2)
        sure = _OF_JACOBIAN * (self.known_log.exp() ** 2 / 2)
        log_weight = torch.log_softmax(each_hypothesis(self.prior_logit), 0)
        constants = torch.cat([log_weight, each_kind(self.backlash_px), torch.zeros(HYPOTHESES, COLUMNS - 2)], 1)
        means = torch.cat([OFFSET, FROM_JACOBIAN])
        none, no_covariance = torch.zeros(HYPOTHESES, COLUMNS), torch.zeros(HYPOTHESES, TERMS, COLUMNS)
        diagonal = torch.eye(COLUMNS)[:TERMS]

        def state(others: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
            return torch.cat([others[:, None], mean[:, None], covariance], 1).flatten()

        rows = [state(constants, none, blind[:, None] * diagonal)]
        rows += [state(none, mean.expand_as(none), no_covariance) for mean in means]
        for variances in (-blind * _OF_JACOBIAN, sure.expand_as(none), _OF_OFFSET.expand_as(none)):
            rows.append(state(none, none, variances[:, None] * diagonal))
        return torch.stack(rows)

    def forward(
        self,
        error_px: Tensor,
        sigma_px: Tensor,
        limits_px: Tensor,
        known_jacobian: Tensor,
        tolerance_px: Tensor,
        largest_move: Tensor,
        state: Tensor,
        may_begin: bool = True,
    ) -> Answer:
        """The move after a frame; ``may_begin``: False where no world can be in its first frame, which saves time."""
        # Axes: worlds, hypotheses, and the rows and columns of vectors and matrices.
        sigma = sigma_px.clamp(0.005, 100.0)
        noise = 2 * (sigma * sigma + self.noise_log.exp() ** 2)  # px^2
        hidden, frames, stale_count, own = torch.split_with_sizes(
            state, [*_SHARED_SIZES.values(), HYPOTHESES * _OWN_SIZE], -1
        )
        later = frames.clamp_max(1.0)
        known2 = (known_jacobian * known_jacobian).sum(-1, keepdim=True)
        if may_begin:
            of_prior = [torch.ones_like(sigma), error_px, known_jacobian, known2.sign(), known2, noise]
            own = own + (torch.cat(of_prior, -1) * (1 - later)) @ self._prior()
        rows = torch.split_with_sizes(
            own.reshape(-1, HYPOTHESES, sum(_OWN_ROWS.values()), COLUMNS), list(_OWN_ROWS.values()), -2
        )
        log_weight, backlash_px, history = torch.split_with_sizes(rows[0], [1, 1, COLUMNS - 2], -1)
        history = history.reshape(-1, HYPOTHESES, 5, 2)
        before = Gaussian(rows[1], circular(rows[2]))
        limits = functional.linear(torch.cat([error_px, limits_px], -1), _LIMITS.T, _LIMITS_OFFSET)
        rooms, lowest, highest, error, errors = torch.split_with_sizes(
            limits.reshape(-1, 1, 1, 16), [4, 2, 2, 2, 2 * BRANCHES], -1
        )

        # The frame was fresh or stale, or the disk has jumped.
        creeps = each_kind(self.creep)[..., None]
        reading = before.read()
        moments = torch.cat(
            [_COMMANDS - creeps * _MOVES, torch.cat([_MOVES, _LAST, _PUSHES]).expand(HYPOTHESES, -1, -1)], 1
        )
        commands, others = torch.split_with_sizes(moments @ history, [BRANCHES, 2 * BRANCHES + 1], -2)
        moved_px, last_px, pushed_px = torch.split_with_sizes(others @ reading.response, [BRANCHES, 1, BRANCHES], -2)
        # In the second frame only the frame itself tells how far the disk has moved.
        shown_px = error - reading.offset - last_px
        moved_px = torch.where((frames == _IS_SECOND).reshape(-1, 1, BRANCHES, 1), shown_px, moved_px)
        here = regressor(_TIMES, commands, moved_px, pushed_px / reading.gain_px)
        stale_frames, fresh_frames = each_kind(self.stale_frames)[:, 0], each_kind(self.fresh_frames)[:, 0]
        stale = (stale_frames + stale_count) / (stale_frames + fresh_frames + (frames - later))
        stale = stale.reshape(-1, HYPOTHESES, 1, 1)
        jump = self.jump_chance.exp()
        belief, evidence, share, surprise2 = before.update(
            here,
            errors.transpose(-1, -2),
            noise.reshape(-1, 1, 1, 1),
            self.jump_px.exp() ** 2,
            _STALE * stale + torch.stack([1 - jump, 0 * jump, jump])[:, None],
            later.reshape(-1, 1, 1, 1),
        )
        each_here = belief.position(here[:, :, :2])
        scores = log_weight + later.reshape(-1, 1, 1, 1) * evidence
        weight = torch.softmax(scores, 1)
        # No hypothesis is ever given up: the grid is coarse, and what fits best may change.
        log_weight = torch.log(weight + _FORGETTING)

        # Linearise anew around what w has turned out to be, so that the play is followed with it.
        reading, unsure = belief.read(), belief.jacobian_metric
        response, gain = reading.response, reading.gain_px
        corrected_px = (backlash_px + reading.backlash_error).clamp(0.0, 6.0)
        found_px = corrected_px - backlash_px
        belief = belief.without_backlash_error(found_px)
        engaged, _, pushes = torch.split_with_sizes(history, [2, 1, 2], -2)
        engaged = engaged - pushes * (found_px / gain)
        engaged_now, push_now = engaged[:, :, :1], pushes[:, :, :1]

        # What the recurrent net sees is the same for any rotation and mirror.
        seen_by_each = torch.cat([each_here, surprise2, share, stale], -2)
        seen = (weight * seen_by_each).sum((1, -1))
        estimate, surprise, _, stale_share, _, mean_stale = torch.split_with_sizes(seen, [2, 1, 3, 1, 1, 1], -1)
        kinds = weight.reshape(-1, _MIRRORS, _KINDS)
        mirrors = kinds.sum(-1, keepdim=True)
        sizes = torch.cat([_length(error_px), _length(estimate), surprise, sigma], -1)
        sizes = torch.log(sizes + _SIZE_FLOORS) * _SIZE_SCALES
        features = torch.cat([sizes, stale_share, mean_stale, mirrors.amax(1), frames.clamp_max(8.0) / 8], -1)
        hidden = self.gru(features[None], hidden[None])[1][0]
        caution, lead, reversal, stretch, actuation2 = self._controls(torch.cat([hidden, features], -1))

        # The command that settles the disk on the target in the next frame, for each filter.
        creep = (creeps + reading.creep_error).clamp(0.0, 0.4)
        play = corrected_px / gain
        unmoved = reading.next_offset + engaged_now @ response
        adjoint = response.transpose(-1, -2)
        square = response @ adjoint
        back = symmetric_solve(square + caution * unsure, unmoved @ adjoint) * (1 + lead * creep)
        each = engaged_now - (back + play * torch.tanh(back * gain / reversal))
        # Within a mirror the filters are averaged; between the mirrors one is chosen, for their mean is no good for
        # either.
        chosen = kinds * (mirrors ** (_SHARPNESS - 1) * _FAVOURED)
        chosen = (chosen / chosen.sum((1, 2), keepdim=True)).reshape(-1, HYPOTHESES, 1, 1)
        wanted, best = torch.split_with_sizes(
            (chosen * torch.cat([each, response], -2)).sum(1, keepdim=True), [1, 2], -2
        )
        wanted = wanted * stretch

        # Hold the move back so that no plausible filter sees the disk leave the screen.
        step = wanted @ response
        reach = step.abs() + (wanted @ unsure * wanted).mean(-1, keepdim=True).clamp_min(1e-6).sqrt()
        each_here = each_here.transpose(-1, -2)
        edge = torch.where(step > 0, highest - each_here, each_here - lowest).clamp_min(5.0)
        fraction = torch.where(weight < 1e-3, 1e3, edge / reach).amin((1, 2, 3), keepdim=True).clamp_max(1.0)
        probe = torch.minimum(rooms.amin(-1, keepdim=True).clamp_min(10.0 / _LARGEST_GAIN_PX), self.probe_log.exp())
        is_blind = (frames + known2 == 0).reshape(-1, 1, 1, 1)
        moves = torch.where(is_blind, probe * _PROBE, fraction * wanted)
        moves = moves / (_length(moves) / largest_move.clamp_min(1e-6).reshape(-1, 1, 1, 1)).clamp_min(1.0)
        move = moves.flatten(1)

        # Predict the next frame.
        engaged_next = torch.minimum(torch.maximum(engaged_now, moves - play), moves + play)
        moved = engaged_next - engaged_now
        # An axis that moves is at the end of its play.
        push_next = torch.where(moved == 0, push_now, moved.sign())
        belief = belief.a_frame_later(
            2 * each_kind(self.walk_px)[..., None] ** 2,
            each_kind(self.actuation)[..., None] ** 2,
            actuation2 * (moved @ (square + unsure) * moved).sum(-1, keepdim=True),
            move,
        )
        engaged = torch.cat([engaged_next, engaged], -2) - moves
        ahead = regressor(_TIMES[:1], engaged[:, :, :1] - creeps * moved, moved @ response, push_next @ response / gain)
        position = belief.position(ahead)
        variance2 = belief.twice_variance(ahead).clamp_min(2e-6)
        # Of a circular Gaussian the part beyond r is at most exp(-(r - |mean|)^2 / variance), and just that for a mean
        # of zero (a bound on Marcum's Q: Simon & Alouini, IEEE Trans. Commun. 48 (2000) 359).
        inside = torch.relu(
            tolerance_px.reshape(-1, 1, 1, 1) - torch.linalg.vector_norm(position, dim=-2, keepdim=True)
        )
        miss_chance = (weight * torch.exp(-2 * inside * inside / variance2)).sum((1, 2))
        history = torch.cat([engaged, push_next, push_now], -2).reshape(-1, HYPOTHESES, 1, COLUMNS - 2)
        others = torch.cat([log_weight, corrected_px, history], -1)
        own = torch.cat([others, belief.mean, belief.covariance[:, :, :TERMS]], -2).flatten(1)
        return Answer(
            move,
            torch.cat([hidden, frames + 1, stale_count + stale_share, own], -1),
            estimate,
            best.transpose(-1, -2).flatten(1),
            torch.logsumexp(scores, 1).flatten(),
            miss_chance,
            weight.flatten(1),
            position.flatten(2),
            variance2.flatten(1) / 2,
        )

    def _controls(self, seen: Tensor) -> tuple[Tensor, ...]:
        """The GRU's five controls, (n, 1, 1, 1) each."""
        zero = torch.zeros(())
        offset = torch.stack([self.caution_log, self.lead_log, self.reversal_log, zero, zero])
        weight, bias = self.control.weight * _CONTROL_SCALES[:, None], self.control.bias * _CONTROL_SCALES
        logs = functional.linear(seen, weight, bias + offset).clamp(-6.0, 6.0)
        return torch.split_with_sizes(logs.exp().reshape(-1, 1, 1, _CONTROLS), [1] * _CONTROLS, -1)


def _length(vector: Tensor) -> Tensor:
    """Of rows (..., 2): (..., 1)."""
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return length
