"""Encoder and decoder: what they start as, and what they keep when biosamples and assays are added."""

import pytest
import torch

from chipvi.nn import BiosampleEmbedding, Decoder, Encoder

N_SLOTS, N_EMBEDDING, N_COVARIATES, N_HIDDEN, N_LATENT, N_OUTPUTS = 5, 4, 3, 11, 6, 2
IS_OWN = [False, True, False, True, False]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


def randomise(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


def encoder(n_assays):
    return randomise(Encoder(n_assays, IS_OWN, N_EMBEDDING, N_COVARIATES, N_HIDDEN, N_LATENT, dropout=0.1))


def encoder_inputs(n_assays):
    """What an encoder takes of 7 regions and 4 queries, which share what is known of the others."""
    n_own = sum(IS_OWN)
    return [
        torch.randn(7, 1, n_assays * (N_SLOTS - n_own)),
        torch.randn(7, 4, n_assays * n_own),
        torch.randn(4, N_EMBEDDING),
        torch.randn(7, N_COVARIATES),
        torch.tensor(-0.3),
    ]


def decoder(n_assays):
    return randomise(Decoder(n_assays, N_LATENT, N_EMBEDDING, N_SLOTS, N_HIDDEN, N_OUTPUTS))


def moved(entries):
    """Which entries training may move, by the number of the parameter."""
    return [is_new.nonzero().tolist() for _, is_new in entries]


def test_new_biosamples_start_as_the_generic_one_and_alone_may_move():
    known, more = randomise(BiosampleEmbedding(2, N_EMBEDDING)), randomise(BiosampleEmbedding(5, N_EMBEDDING))
    more.extend_from(known)
    found = more(torch.arange(6))
    torch.testing.assert_close(found[:2], known(torch.arange(2)), rtol=0, atol=0)
    torch.testing.assert_close(found[2:], known(torch.tensor([2])).expand(4, -1), rtol=0, atol=0)
    assert more.generic == 5
    assert moved(more.new_entries(2)) == [[[row, column] for row in (2, 3, 4) for column in range(N_EMBEDDING)]]


def test_an_encoder_with_more_assays_encodes_as_before_whatever_the_new_ones_show():
    known, more = encoder(3), encoder(4)
    more.extend_from(known)
    others, own, *context = encoder_inputs(4)
    of_known = [x[..., : 3 * x.shape[-1] // 4] for x in (others, own)]
    for found, expected in zip(more(others, own, *context), known(*of_known, *context), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    columns = range(3 * N_SLOTS, 4 * N_SLOTS)
    assert moved(more.new_entries(3)) == [[[row, column] for row in range(N_HIDDEN) for column in columns]]


def test_an_encoder_depends_on_each_of_its_inputs_and_starts_nearly_certain():
    plain = Encoder(3, IS_OWN, N_EMBEDDING, N_COVARIATES, N_HIDDEN, N_LATENT, dropout=0.0)
    inputs = encoder_inputs(3)
    mean_rqk, scale_rqk = plain(*inputs)
    assert mean_rqk.shape == scale_rqk.shape == (7, 4, N_LATENT)
    torch.testing.assert_close(scale_rqk, torch.full_like(scale_rqk, -1.5).exp())
    for place in range(len(inputs)):
        changed = [one + 1 if at == place else one for at, one in enumerate(inputs)]
        assert (plain(*changed)[0] != mean_rqk).all()


def test_the_first_layer_takes_the_features_assay_by_assay_and_then_the_context():
    plain, (others, own, embedding, covariates, log_keep) = encoder(3), encoder_inputs(3)
    mean_rqk, _ = plain(others, own, embedding, covariates, log_keep)
    n_own = sum(IS_OWN)
    for r, q in [(0, 0), (6, 3), (2, 1)]:
        inputs = []
        for a in range(3):
            of_others = iter(others[r, 0, a * (N_SLOTS - n_own) :])
            of_own = iter(own[r, q, a * n_own :])
            inputs += [next(of_own if is_own else of_others) for is_own in IS_OWN]
        inputs_i = torch.cat([torch.stack(inputs), embedding[q], covariates[r], log_keep[None]])
        torch.testing.assert_close(mean_rqk[r, q], plain.mean(plain.layers(inputs_i)), rtol=1e-4, atol=1e-5)


def test_features_of_0_of_an_own_track_are_as_none_to_the_last_bit():
    plain, (others, own, *context) = encoder(3), encoder_inputs(3)
    own[:, :, 2:4] = 0
    ignorant = encoder(3)
    ignorant.load_state_dict(plain.state_dict())
    with torch.no_grad():
        ignorant.input_weight_hi[:, [N_SLOTS + i for i, is_own in enumerate(IS_OWN) if is_own]] = 1e6
    assert torch.equal(plain(others, own, *context)[0], ignorant(others, own, *context)[0])


@pytest.mark.parametrize("log_variance", [-40.0, -12.0, 0.5, 4.0, 90.0])
def test_the_scale_of_an_encoder_is_the_root_of_its_bounded_variance(log_variance):
    plain = encoder(3)
    torch.nn.init.zeros_(plain.log_variance.weight)
    torch.nn.init.constant_(plain.log_variance.bias, log_variance)
    _, scale_rqk = plain(*encoder_inputs(3))
    expected = torch.tensor(min(max(log_variance, -12.0), 4.0)).exp().sqrt()
    torch.testing.assert_close(scale_rqk, expected.expand(7, 4, N_LATENT))


def decoder_inputs():
    """The latent of 7 regions and 4 queries, and the embeddings of these."""
    return torch.randn(7, 4, N_LATENT), torch.randn(4, N_EMBEDDING)


def test_a_decoder_starts_at_zero():
    plain = Decoder(3, N_LATENT, N_EMBEDDING, N_SLOTS, N_HIDDEN, N_OUTPUTS)
    raw = plain(*decoder_inputs(), torch.ones(4, 3, dtype=int), torch.randn(7, 4, 3, N_SLOTS))
    assert raw.shape == (7, 4, 3, N_OUTPUTS) and (raw == 0).all()


def test_a_decoder_is_the_shared_network_and_a_linear_map_of_each_assay():
    plain = decoder(3)
    (z_rqk, embedding_qe), assay_qg = decoder_inputs(), torch.tensor([[2, 0, 1], [0, 1, 2], [1, 1, 1], [2, 2, 0]])
    reference_rqgi = torch.randn(7, 4, 3, N_SLOTS)
    found = plain(z_rqk, embedding_qe, assay_qg, reference_rqgi)
    for r in range(7):
        for q in range(4):
            for g in range(3):
                assay, z_k = int(assay_qg[q, g]), z_rqk[r, q]
                inputs_i = torch.cat([z_k, plain.assays.weight[assay], embedding_qe[q], reference_rqgi[r, q, g]])
                expected = plain.shared(inputs_i) + z_k @ plain.weight_ako[assay] + plain.bias_ao[assay]
                torch.testing.assert_close(found[r, q, g], expected, rtol=1e-4, atol=1e-5)


def test_a_decoder_with_more_assays_keeps_those_that_it_knows_and_starts_new_ones_at_their_mean():
    known, more = decoder(3), decoder(5)
    more.extend_from(known)
    inputs = [*decoder_inputs(), torch.tensor([[0, 1, 2]] * 4), torch.randn(7, 4, 3, N_SLOTS)]
    torch.testing.assert_close(more(*inputs), known(*inputs), rtol=0, atol=0)
    for own, of_known in (
        (more.assays.weight, known.assays.weight),
        (more.weight_ako, known.weight_ako),
        (more.bias_ao, known.bias_ao),
    ):
        for new in (3, 4):
            torch.testing.assert_close(own[new], sum(of_known[a] for a in range(3)) / 3)
    assert [sorted({place[0] for place in places}) for places in moved(more.new_entries(3))] == [[3, 4]] * 3
    assert [len(places) for places in moved(more.new_entries(3))] == [
        2 * N_EMBEDDING, 2 * N_LATENT * N_OUTPUTS, 2 * N_OUTPUTS
    ]  # fmt: skip
