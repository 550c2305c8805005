"""The orbit-tied crosscoder: each feature is a turned copy of a prototype, and learns from every pose of it.

    z_{p,h} = sigma(<rho(h) E_p, A - b> + b_p)          Ahat[g] = b + sum over p, h of z_{p,h} D_p[g h]

For any network the sample of a turned image is A(h.x) = rho(h) A(x), exactly. So weights may be shared over poses
with nothing assumed of the network, and codes of turned images are the same codes, their poses moved:

    z_{p,h}(h'.x) = z_{p, h'^-1 h}(x)

Of each prototype the pose with the largest pre-activation is taken: its neighbours, and those that the prototype's own
symmetry makes equal, say nearly the same, and would use up the k active features of a sample. `poses` allows more, by
matching pursuit inside the orbit: what a pose explains is taken off the others before the next is chosen.

The first prototypes may be *invariant*, for what no element changes: all blocks equal, D_p[g] = d_p and E_p[g] = e_p,
and one feature each. They are rows as any other, |G| times the memory that they need: so top-k, AuxK, nested
dictionaries, sharding, optimisers and checkpoints know nothing of them. What is decoded with such a row, and what it is
encoded from, are means over the blocks; so its gradient is that of d_p and e_p, shared out alike.

Letters: B samples, G and H group elements, C channels, P prototypes, K active copies, F = P G features, N some
prototypes, n poses of one.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gc_core.crosscoder.activation_functions import (
    Choice,
    SparseCode,
    choose_above,
    choose_per_batch,
    choose_per_sample,
    gathered_left,
)
from gc_core.crosscoder.base import PLAIN, Arithmetic, Crosscoder
from gc_core.crosscoder.correlations import correlations, transform
from gc_core.crosscoder.shape import CrosscoderShape
from gc_core.crosscoder.untied import GroupCrosscoder
from gc_core.parallel.collectives import ALONE, Peers, Shards
from gc_core.sparse import Turns, turned_decode, turned_encode
from gc_core.symmetry import self_similarity, translate

CORRELATIONS_AT_ONCE = {"cpu": 2**22, "cuda": 2**28}
"""Numbers (samples times features) computed at a time where only the best of each prototype is kept."""

FEATURES_AT_ONCE = 1024
"""Features whose turned copies are made at a time."""

LEAST_SHARE = 1e-3
"""Share of a prototype's first pose that a further one must reach: what is left of an equal pose is rounding."""


class OrbitCrosscoder(Crosscoder, tying="orbit"):
    """W_enc (P, G, C), b_enc (P,), W_dec (P, G, C), b_dec (C,), the same for all blocks; the rest as in the base.

    A feature's number is p G + h, for prototype p turned by h; with N invariant prototypes, which are the first, p is
    theirs, and those of the others follow from N on. What is said of rows, and of `features` here, is of prototypes.
    """

    def __init__(self, shape: CrosscoderShape, shards: Shards = ALONE, arithmetic: Arithmetic = PLAIN) -> None:
        super().__init__(shape, shards, arithmetic)
        turns = Turns.of(torch.from_numpy(self.group.cayley), torch.from_numpy(self.group.inverse))
        self._products: Tensor
        self._undone: Tensor
        self._inverses: Tensor
        self.register_buffer("_products", turns.product_GG, persistent=False)
        self.register_buffer("_undone", turns.undone_GG, persistent=False)
        self.register_buffer("_inverses", torch.from_numpy(self.group.inverse), persistent=False)

    def best_pre_activations(self, acts_BGC: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pre-activations (B, n) of prototypes, all or some (n,), each at the pose (B, n) where it is largest."""
        with torch.no_grad():
            known_BN, pose_BN = self._poses_of(acts_BGC, features)
        rows = self._rows(acts_BGC.device) if features is None else features
        return self._pre_activations_at(acts_BGC, rows.expand_as(pose_BN), pose_BN, known_BN), pose_BN

    def as_code(self, z_BR: Tensor, pose_BR: Tensor | None) -> SparseCode:
        """Values and poses of all prototypes (B, P)."""
        return SparseCode(z_BR, self._rows(z_BR.device).expand_as(z_BR), pose_BR)

    def sparse_code(self, acts_BGC: Tensor, peers: Peers | None = None) -> tuple[SparseCode, Choice]:
        """The prototypes that would move the reconstruction most, each at its best pose, or its best few."""
        with torch.no_grad():
            known_BP, pose_BP = self._poses_of(acts_BGC)
            score_BP = (known_BP + self.b_enc) * self.decoder_norm()
            if self.shape.activation == "batchtopk":
                choice = choose_per_batch(score_BP, self.shape.k, peers or Peers(), self.shards)
            else:
                choice = choose_per_sample(score_BP, self.shape.k, self.shards)
        return self._code_of(acts_BGC, choice, known_BP, pose_BP), choice

    def encode(self, acts_BGC: Tensor) -> Tensor:
        """Feature activations z (B, F), not negative, of activations (B, G, C)."""
        code = self.code(acts_BGC)
        assert code.pose_BK is not None, "tied features have poses"
        turned_BK = self._num_invariant + (code.index_BK - self._num_invariant) * self.group.order + code.pose_BK
        feature_BK = torch.where(code.index_BK < self._num_invariant, code.index_BK, turned_BK)
        z_BF = code.value_BK.new_zeros(len(acts_BGC), self._num_features)
        return z_BF.scatter_add(1, feature_BK, code.value_BK)

    @torch.no_grad()
    def reconstruct_with_poses(self, acts_BGC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How strongly each prototype is active (B, P), over its poses together, the first of these (B, P), and the
        reconstruction (B, G, C)."""
        code = self.code(acts_BGC)
        assert code.pose_BK is not None, "tied features have poses"
        z_BP = code.value_BK.new_zeros(len(acts_BGC), len(self.features))
        first = slice(None, None, self._poses)  # the further ones of a prototype stand behind its first
        pose_BP = torch.zeros(z_BP.shape, dtype=torch.int64, device=z_BP.device)
        pose_BP.scatter_(1, code.index_BK[:, first], code.pose_BK[:, first])
        return z_BP.scatter_add(1, code.index_BK, code.value_BK), pose_BP, self.decode_sparse(code)

    def code(self, acts_BGC: Tensor) -> SparseCode:
        """Value, prototype and pose of what is active in each sample, as `encode` has them."""
        with torch.no_grad():
            known_BP, pose_BP = self._poses_of(acts_BGC)
            choice = self._choice_outside_training(known_BP + self.b_enc)
        return self._code_of(acts_BGC, choice, known_BP, pose_BP)

    def decode(
        self,
        z_BF: Tensor,
        *,
        features: slice | None = None,
        blocks: Tensor | None = None,
        onto_BGC: Tensor | None = None,
    ) -> Tensor:
        """Reconstruction (B, G, C) of dense codes (B, F); a plain sum over poses, for few samples."""
        assert features is None, "tied features are decoded whole"
        assert blocks is None, "tied features are decoded whole"
        invariant_BNG = F.pad(z_BF[:, : self._num_invariant, None], (0, self.group.order - 1))
        turned_BPG = z_BF[:, self._num_invariant :].unflatten(1, (-1, self.group.order))
        z_BPG = torch.cat([invariant_BNG, turned_BPG], 1)
        summed = z_BF.new_zeros(len(z_BF), self.W_dec[0].numel())
        for h in range(self.group.order):
            summed = summed + z_BPG[:, :, h] @ translate(self.W_dec, h, self.group).flatten(1)
        return self.shards.total(summed.view(-1, *self.W_dec.shape[1:])) + self._base(onto_BGC, None)

    def decode_sparse(
        self, code: SparseCode, *, blocks: Tensor | None = None, onto_BGC: Tensor | None = None
    ) -> Tensor:
        """What `decode` gives for the same code, (B, G, C), at a cost that follows the active copies."""
        assert blocks is None, "tied features are decoded whole"
        assert code.pose_BK is not None, "tied features have poses"
        summed = self._decoded(code.value_BK, code.index_BK, code.pose_BK)
        return self.shards.total(summed) + self._base(onto_BGC, None)

    def decoder_of(self, features: Tensor) -> Tensor:
        """Decoder (n, G, C) of some features (n,): their prototypes, turned."""
        return self._turned(self.W_dec, features)

    def decode_rows(
        self, z_BN: Tensor, pose_BN: Tensor | None, features: Tensor, blocks: Tensor | None = None
    ) -> Tensor:
        """The part (B, G, C) that some prototypes (n,) with these values and poses add to the reconstruction."""
        assert blocks is None, "tied features are decoded whole"
        assert pose_BN is not None, "tied features have poses"
        place_BK = gathered_left(z_BN != 0)
        index_BK = features.expand_as(z_BN).gather(1, place_BK)
        return self.shards.total(self._decoded(z_BN.gather(1, place_BK), index_BK, pose_BN.gather(1, place_BK)))

    @torch.no_grad()
    def materialised(self) -> GroupCrosscoder:
        """Untie the poses: the same features as an ordinary crosscoder over all blocks, with |G| times the weights. Its
        codes differ where several poses of one prototype are among the largest."""
        plain = GroupCrosscoder(replace(self.shape, tying="none", poses=1, invariant=0)).to(self.W_dec)
        feature_F = torch.arange(self._num_features, device=self.W_dec.device)
        for some_N in feature_F.split(FEATURES_AT_ONCE):
            plain.W_enc[some_N] = self._turned(self.W_enc, some_N)
            plain.W_dec[some_N] = self._turned(self.W_dec, some_N)
        prototype_F, _ = self._prototypes_of(feature_F)
        plain.b_enc.copy_((self.b_enc - self.W_enc.sum(1) @ self.b_dec)[prototype_F])
        plain.b_dec.copy_(self.b_dec.expand_as(plain.b_dec))
        if plain.log_threshold is not None and self.log_threshold is not None:
            plain.log_threshold.copy_(self.log_threshold[prototype_F])
        if plain.threshold is not None and self.threshold is not None:
            plain.threshold.copy_(self.threshold)
        return plain

    @torch.no_grad()
    def keep_ties(self) -> None:
        """Blocks of invariant prototypes become equal again: Adam's stochastic rounding moves them apart."""
        for weights in (self.W_enc, self.W_dec):
            some = weights[: self._num_invariant]
            some.copy_(some.mean(1, keepdim=True).expand_as(some))

    def _poses_of(self, acts_BGC: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values and poses like `_best_poses`; the first pose of an invariant prototype stands for all."""
        value_BN, pose_BN = self._best_poses(acts_BGC, features)
        rows = self._rows(acts_BGC.device) if features is None else features
        return value_BN, torch.where(rows < self._num_invariant, 0, pose_BN)

    def _choice_outside_training(self, pre_BP: Tensor) -> Choice:
        if self.shape.activation in ("l1", "jumprelu"):
            least = pre_BP.new_zeros(()) if self.log_threshold is None else self.log_threshold.exp()
            active_BP = pre_BP > least
            place_BK = gathered_left(active_BP)
            return Choice(place_BK, active_BP.gather(1, place_BK), pre_BP.new_full((), torch.inf))
        score_BP = pre_BP * self.decoder_norm()
        if self.threshold is not None and not self.threshold.isnan():
            return choose_above(score_BP, self.threshold)
        return choose_per_sample(score_BP, self.shape.k, self.shards)

    @torch.no_grad()
    def _best_poses(self, acts_BGC: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """max over h of <rho(h) E_p, A - b>, (B, n), and the h (B, n, int64) that attains it."""
        weights = self.W_enc if features is None else self.W_enc[features]
        value_BN = acts_BGC.new_zeros(len(acts_BGC), len(weights))
        pose_BN = torch.zeros(value_BN.shape, dtype=torch.int64, device=acts_BGC.device)
        right = self._transform(weights)
        for part in self._parts(acts_BGC, len(weights)):
            best = correlations(self._transform(acts_BGC[part] - self.b_dec), right, self.group).max(dim=2)
            value_BN[part], pose_BN[part] = best.values, best.indices
        return value_BN, pose_BN

    def _code_of(self, acts_BGC: Tensor, choice: Choice, known_BP: Tensor, pose_BP: Tensor) -> SparseCode:
        """The code of the prototypes chosen, with gradient; `known_BP` and `pose_BP` as `_best_poses` found them."""
        index_BK = choice.index_BK
        known_BK, pose_BK = known_BP.gather(1, index_BK), pose_BP.gather(1, index_BK)
        if self._poses > 1:
            return self._pursued(acts_BGC, choice, pose_BK)
        value_BK = self._pre_activations_at(acts_BGC, index_BK, pose_BK, known_BK)
        return SparseCode(torch.where(choice.active_BK, value_BK, 0).relu(), index_BK, pose_BK)

    def _pursued(self, acts_BGC: Tensor, choice: Choice, pose_BK: Tensor) -> SparseCode:
        """Several poses of each prototype chosen, the best one first.

        The value of a pose is its pre-activation less what those before it explain of it: their values times the
        cosine of the prototype with itself at that distance. Poses that the prototype cannot tell apart vanish so.
        """
        index_BK = choice.index_BK
        alike_PG = self_similarity(self.W_dec.detach(), self.group)
        with torch.no_grad():
            pose_BKn, known_BKn = self._pursue(acts_BGC, index_BK, pose_BK, alike_PG)
        index_BKn = index_BK[:, :, None].expand_as(pose_BKn)
        flat = (each.flatten(1) for each in (index_BKn, pose_BKn, known_BKn))
        pre_BKn = self._pre_activations_at(acts_BGC, *flat).view(pose_BKn.shape)
        values: list[Tensor] = []
        for number, pre_BK in enumerate(pre_BKn.unbind(2)):
            for earlier, taken_BK in enumerate(values):
                between_BK = self._between(pose_BKn[:, :, earlier], pose_BKn[:, :, number])
                pre_BK = pre_BK - taken_BK * alike_PG[index_BK, between_BK]
            says_more = pre_BK > LEAST_SHARE * values[0] if values else choice.active_BK
            values.append(torch.where(choice.active_BK & says_more, pre_BK, 0).relu())
        return SparseCode(torch.stack(values, 2).flatten(1), index_BKn.flatten(1), pose_BKn.flatten(1))

    def _pursue(self, acts_BGC: Tensor, index_BK: Tensor, pose_BK: Tensor, alike_PG: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (B, K, n) in the order in which they are taken, and <rho(h) E_p, A - b> there."""
        every_H = torch.arange(self.group.order, device=acts_BGC.device)
        right, pursued = self._transform(self.W_enc), []
        for part in self._parts(acts_BGC, len(self.features)):
            products_BPH = correlations(self._transform(acts_BGC[part] - self.b_dec), right, self.group)
            known_BKH = products_BPH.take_along_dim(index_BK[part, :, None], 1)
            left_BKH, poses = known_BKH + self.b_enc[index_BK[part], None], [pose_BK[part]]
            while len(poses) < self._poses:
                taken = left_BKH.gather(2, poses[-1][:, :, None]).relu()
                away_BKH = self._between(poses[-1][:, :, None], every_H)
                left_BKH = left_BKH - taken * alike_PG[index_BK[part, :, None], away_BKH]
                left_BKH = left_BKH.scatter(2, poses[-1][:, :, None], -torch.inf)
                poses.append(left_BKH.argmax(2))
            pose_BKn = torch.stack(poses, 2)
            pursued.append((pose_BKn, known_BKH.gather(2, pose_BKn)))
        return torch.cat([pose for pose, _ in pursued]), torch.cat([known for _, known in pursued])

    def _between(self, first: Tensor, second: Tensor) -> Tensor:
        """first^-1 second, of broadcast elements."""
        return self._products[self._inverses[first], second]

    def _pre_activations_at(self, acts_BGC: Tensor, index_BK: Tensor, pose_BK: Tensor, known_BK: Tensor) -> Tensor:
        """Pre-activations (B, K) with gradient, of which `known_BK` is known but for the bias b_p."""
        dense, biased_BK = not self.arithmetic.gradients_by_row, known_BK + self.b_enc.detach()[index_BK]
        weights, bias_C = (self.W_enc, self.b_enc), self.shards.shared(self.b_dec)

        def pre(read_BGC: Tensor) -> Tensor:
            return turned_encode(
                read_BGC, bias_C, *weights, index_BK, pose_BK, self._turns, dense_grad=dense, known_BK=biased_BK
            )

        if not self._num_invariant:
            return pre(acts_BGC)
        mean_BGC = acts_BGC.mean(1, keepdim=True).expand_as(acts_BGC)
        return torch.where(index_BK < self._num_invariant, pre(mean_BGC), pre(acts_BGC))

    def _decoded(self, value_BK: Tensor, index_BK: Tensor, pose_BK: Tensor) -> Tensor:
        def summed(some_BK: Tensor) -> Tensor:
            dense = not self.arithmetic.gradients_by_row
            return turned_decode(some_BK, index_BK, pose_BK, self.W_dec, self._turns, dense_grad=dense)

        if not self._num_invariant:
            return summed(value_BK)
        invariant_BK = index_BK < self._num_invariant
        mean_B1C = summed(torch.where(invariant_BK, value_BK, 0)).mean(1, keepdim=True)
        return mean_B1C + summed(torch.where(invariant_BK, 0, value_BK))

    def _turned(self, weights_PGC: Tensor, features: Tensor) -> Tensor:
        """Rows of the prototypes of some features (n,), turned into their poses, (n, G, C)."""
        prototype_N, pose_N = self._prototypes_of(features)
        return weights_PGC[prototype_N[:, None], self._products[:, pose_N].T]

    def _prototypes_of(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Prototype and pose (n,) of some features (n,)."""
        turned_N = features - self._num_invariant
        prototype_N = torch.where(turned_N < 0, features, self._num_invariant + turned_N // self.group.order)
        return prototype_N, torch.where(turned_N < 0, 0, turned_N % self.group.order)

    def _rows(self, device: torch.device) -> Tensor:
        return torch.arange(len(self.features), device=device)

    def _transform(self, blocks_NGC: Tensor) -> list[Tensor]:
        parts, dtype = transform(blocks_NGC, self.group), self.arithmetic.product_dtype
        return parts if dtype is None else [part.to(dtype) for part in parts]

    def _parts(self, acts_BGC: Tensor, num_prototypes: int) -> Iterator[slice]:
        """Parts of a batch, whose correlations are computed one after the other."""
        numbers = CORRELATIONS_AT_ONCE.get(acts_BGC.device.type, 2**23)
        step = max(1, numbers // max(1, num_prototypes * self.group.order))
        return (slice(first, first + step) for first in range(0, len(acts_BGC), step))

    @property
    def _bias_shape(self) -> tuple[int, ...]:
        return (self.shape.channels,)

    @property
    def _num_invariant(self) -> int:
        """Number of invariant prototypes here, which come first."""
        return len(range(self.features.start, min(self.shape.invariant, self.features.stop)))

    @property
    def _num_features(self) -> int:
        return self._num_invariant + (len(self.features) - self._num_invariant) * self.group.order

    @property
    def _poses(self) -> int:
        """Most active poses of a prototype; there are no more than the group has elements."""
        return min(self.shape.poses, self.group.order)

    @property
    def _turns(self) -> Turns:
        return Turns(self._products, self._undone)
