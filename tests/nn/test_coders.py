"""Encoder and decoder: what they start as, and what they keep when biosamples and assays are added."""

import pytest
import torch

from chipvi.nn import BiosampleEmbedding, Decoder, Encoder

N_SLOTS, N_EMBEDDING, N_HIDDEN, N_LATENT, N_OUTPUTS = 5, 4, 11, 6, 2


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
    return randomise(Encoder(n_assays, N_SLOTS, N_EMBEDDING, N_HIDDEN, N_LATENT, dropout=0.1))


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
    features_qi, embedding_qe, log_keep_q = torch.randn(7, 4 * N_SLOTS), torch.randn(7, N_EMBEDDING), torch.randn(7)
    mean_qk, scale_qk = known(features_qi[:, : 3 * N_SLOTS], embedding_qe, log_keep_q)
    for found, expected in zip(more(features_qi, embedding_qe, log_keep_q), (mean_qk, scale_qk), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    columns = range(3 * N_SLOTS, 4 * N_SLOTS)
    assert moved(more.new_entries(3)) == [[[row, column] for row in range(N_HIDDEN) for column in columns]]


def test_an_encoder_depends_on_each_of_its_inputs_and_starts_nearly_certain():
    plain = Encoder(3, N_SLOTS, N_EMBEDDING, N_HIDDEN, N_LATENT, dropout=0.0)
    inputs = [torch.randn(7, 3 * N_SLOTS), torch.randn(7, N_EMBEDDING), torch.randn(7)]
    mean_qk, scale_qk = plain(*inputs)
    assert (mean_qk.shape, scale_qk.shape) == ((7, N_LATENT), (7, N_LATENT))
    torch.testing.assert_close(scale_qk, torch.full_like(scale_qk, -1.5).exp())
    for place in range(3):
        changed = [one + 1 if at == place else one for at, one in enumerate(inputs)]
        assert (plain(*changed)[0] != mean_qk).all()


@pytest.mark.parametrize("log_variance", [-40.0, -12.0, 0.5, 4.0, 90.0])
def test_the_scale_of_an_encoder_is_the_root_of_its_bounded_variance(log_variance):
    plain = encoder(3)
    torch.nn.init.zeros_(plain.log_variance.weight)
    torch.nn.init.constant_(plain.log_variance.bias, log_variance)
    _, scale_qk = plain(torch.randn(7, 3 * N_SLOTS), torch.randn(7, N_EMBEDDING), torch.randn(7))
    expected = torch.tensor(min(max(log_variance, -12.0), 4.0)).exp().sqrt()
    torch.testing.assert_close(scale_qk, expected.expand(7, N_LATENT))


def test_a_decoder_starts_at_zero():
    plain = Decoder(3, N_LATENT, N_EMBEDDING, N_SLOTS, N_HIDDEN, N_OUTPUTS)
    raw = plain(
        torch.randn(7, N_LATENT), torch.randn(7, N_EMBEDDING), torch.ones(7, 2, dtype=int), torch.randn(7, 2, N_SLOTS)
    )
    assert raw.shape == (7, 2, N_OUTPUTS) and (raw == 0).all()


def test_a_decoder_is_the_shared_network_and_a_linear_map_of_each_assay():
    plain = decoder(3)
    z_qk, embedding_qe, assay_qg = torch.randn(7, N_LATENT), torch.randn(7, N_EMBEDDING), torch.tensor([[2, 0]] * 7)
    assay_qg[4] = torch.tensor([1, 1])
    reference_qgi = torch.randn(7, 2, N_SLOTS)
    found = plain(z_qk, embedding_qe, assay_qg, reference_qgi)
    for q in range(7):
        for g in range(2):
            assay = int(assay_qg[q, g])
            inputs_i = torch.cat([z_qk[q], plain.assays.weight[assay], embedding_qe[q], reference_qgi[q, g]])
            expected = plain.shared(inputs_i) + z_qk[q] @ plain.weight_ako[assay] + plain.bias_ao[assay]
            torch.testing.assert_close(found[q, g], expected, rtol=1e-4, atol=1e-5)


def test_a_decoder_with_more_assays_keeps_those_that_it_knows_and_starts_new_ones_at_their_mean():
    known, more = decoder(3), decoder(5)
    more.extend_from(known)
    z_qk, embedding_qe, reference_qgi = (
        torch.randn(7, N_LATENT),
        torch.randn(7, N_EMBEDDING),
        torch.randn(7, 3, N_SLOTS),
    )
    assay_qg = torch.tensor([[0, 1, 2]] * 7)
    expected = known(z_qk, embedding_qe, assay_qg, reference_qgi)
    torch.testing.assert_close(more(z_qk, embedding_qe, assay_qg, reference_qgi), expected, rtol=0, atol=0)
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
