"""When features begin anew in a training, and along which samples: the same on any mesh of workers.

Letters: B samples, L lanes, N features and a sample for each, G group elements, C channels, F features, S shards.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gc_core.config import TrainConfig
from gc_core.crosscoder import GroupCrosscoder
from gc_core.optim import RowAdam
from gc_core.revival import begin_anew
from gc_core.train.recipe import decided, resamples
from gc_core.train.workers import Place, peers_of, sum_over_replicas

REVIVE_EVERY = 10
"""Steps from one time to the next."""
SHARE_OF_BATCH = 0.25
"""Features that begin anew at a time, at most, over the samples of a batch: those whose samples are explained worst."""
LAST_SHARE = 0.2
"""Of the steps, at the end, in which none begins anew: it would not be finished."""


class Revival:
    """Counts for how long each feature has not fired, nor begun, and lets those begin anew for which it is too long."""

    def __init__(self, model: GroupCrosscoder, config: TrainConfig, place: Place) -> None:
        self._model, self._config, self._place = model, config, place
        self.samples_since_begun_F = torch.zeros(len(model.features), dtype=torch.int64, device=place.device)

    def count(self, fired_F: Tensor) -> None:
        """One step more; `fired_F` is over all replicas."""
        waited_F = self.samples_since_begun_F + self._config.batch
        self.samples_since_begun_F = torch.where(fired_F > 0, 0, waited_F)

    def is_time(self, step: int) -> bool:
        """Whether features may begin anew after that many steps."""
        last = (1 - LAST_SHARE) * decided(self._config.steps)
        return resamples(self._config) and step % REVIVE_EVERY == 0 and step <= last

    @torch.no_grad()
    def revive(self, acts_BGC: Tensor, step: int, optimiser: RowAdam, average: GroupCrosscoder | None) -> None:
        """Let dead features begin anew along residuals of this worker's samples and all others'; lanes are in order.

        Every worker must call it.
        """
        waiting_F = self.samples_since_begun_F >= decided(self._config.dead_after_samples)
        if not self._model.shards.total(waiting_F.sum()):
            return
        rng = np.random.default_rng([self._config.seed, 6, step])
        residual_BGC = acts_BGC - self._reconstruction(acts_BGC)
        sample_N = self._drawn_samples(residual_BGC, rng)
        feature_N = self._drawn_features(waiting_F, len(sample_N), rng)
        sample_N = sample_N[: len(feature_N)]
        acts_NGC, residual_NGC = (self._fetched(each_BGC, sample_N) for each_BGC in (acts_BGC, residual_BGC))
        here = self._model.features
        own_N = torch.from_numpy((feature_N >= here.start) & (feature_N < here.stop)).to(acts_BGC.device)
        row_N = (torch.from_numpy(feature_N).to(acts_BGC.device) - here.start)[own_N]
        norm = self._usual_norm(~waiting_F)
        for model in filter(None, (self._model, average)):
            begin_anew(model, row_N, acts_NGC[own_N], residual_NGC[own_N], norm)
        optimiser.forget_direction([self._model.W_enc, self._model.b_enc, self._model.W_dec], row_N)
        self.samples_since_begun_F[row_N] = 0

    def _reconstruction(self, acts_BGC: Tensor) -> Tensor:
        code, _ = self._model.sparse_code(acts_BGC, peers_of(self._place))
        return self._model.decode_sparse(code)

    def _drawn_samples(self, residual_BGC: Tensor, rng: np.random.Generator) -> NDArray[np.int64]:
        """Numbers in the whole batch, by squared error, none twice."""
        error_B = residual_BGC.flatten(1).square().sum(1).double()
        everyone = peers_of(self._place).gather(error_B).cpu().numpy()
        lanes = self._config.lanes // self._place.num_replicas
        error_LB = everyone.reshape(self._place.num_replicas, lanes, -1).swapaxes(
            0, 1
        )  # each has every so many-th lane
        error_B = error_LB.ravel()
        count = min(int(SHARE_OF_BATCH * len(error_B)), np.count_nonzero(error_B))
        return rng.choice(len(error_B), count, replace=False, p=error_B / error_B.sum()) if count else np.zeros(0, int)

    def _drawn_features(self, waiting_F: Tensor, at_most: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Numbers in the whole dictionary of features that wait."""
        everyone_F = self._model.shards.gather(waiting_F.long()).flatten().cpu().numpy()
        return rng.permutation(np.flatnonzero(everyone_F))[:at_most]

    def _fetched(self, each_BGC: Tensor, sample_N: NDArray[np.int64]) -> Tensor:
        """What belongs to samples of the whole batch, wherever they are."""
        place = self._place
        rows_per_lane = len(each_BGC) * place.num_replicas // self._config.lanes
        lane_N, row_N = np.divmod(sample_N, rows_per_lane)
        mine_N = lane_N % place.num_replicas == place.replica
        at_N = lane_N // place.num_replicas * rows_per_lane + row_N
        found_NGC = each_BGC.new_zeros(len(sample_N), *each_BGC.shape[1:])
        found_NGC[torch.from_numpy(mine_N)] = each_BGC[torch.from_numpy(at_N[mine_N])]
        return sum_over_replicas(found_NGC, place)

    def _usual_norm(self, alive_F: Tensor) -> Tensor:
        """() mean norm of the decoders of those that do not wait; of all, where all do."""
        total, norm_F = self._model.shards.total, self._model.decoder_norm()
        counted_F = alive_F.to(norm_F) if total(alive_F.sum()) else torch.ones_like(norm_F)
        return total((norm_F * counted_F).sum()) / total(counted_F.sum())
