"""Who may ask: the token, the names of the server, pages of others, and the types of bodies."""

import gzip
import json

import pytest
import requests

from tests.support.hostile_clients import connect, post_head, until_closed
from tests.support.running import FAKE, gated, lengths_of, post, refusal
from tibert_keras.errors import InputError
from tibert_keras.serving.config import ServeConfig

BODY = {"instances": ["a"]}


@pytest.fixture(scope="module")
def url():
    with gated(lengths_of, max_request_bytes=100_000) as address:
        yield address


class TestNames:
    """Without a token, pages that a user visits must not make his browser ask the server on his machine."""

    @pytest.mark.parametrize("host", ["127.0.0.1:8501", "LocalHost:80", "[::1]:8501", "192.168.1.7", "tibert"])
    def test_its_own(self, url, host):
        assert post(f"{url}{FAKE}", BODY, headers={"Host": host}).ok
        assert post(f"{url}{FAKE}", BODY, headers={"Host": host, "Origin": f"http://{host.lower()}"}).ok

    @pytest.mark.parametrize("host", ["evil.example", "e.example:8501", "localhost.e.example", "127.0.0.1.nip.io"])
    @pytest.mark.parametrize("path", ["/healthz", "/", FAKE])
    def test_another(self, url, host, path):
        assert "has another name" in refusal(requests.get(f"{url}{path}", headers={"Host": host}), 421)

    @pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost:1", "null", "http://127.0.0.1", "x"])
    def test_a_page_of_another_server(self, url, origin):
        assert "page of another server" in refusal(post(f"{url}{FAKE}", BODY, headers={"Origin": origin}), 403)

    def test_allowed_ones(self):
        with gated(lengths_of, allowed_hosts="A.example, b.example", token="t") as url:
            token = {"Authorization": "Bearer t"}
            for headers in ({"Host": "a.example"}, {"Origin": "https://b.example"}, {"Host": "B.example:80"}):
                assert post(f"{url}{FAKE}", BODY, headers=token | headers).ok
            assert post(f"{url}{FAKE}", BODY, headers=token | {"Host": "c.example"}).status_code == 421
        with gated(lengths_of, allowed_hosts="*") as url:
            assert post(f"{url}{FAKE}", BODY, headers={"Host": "c.example", "Origin": "http://d.example"}).ok
        with gated(lengths_of, token="t") as url:
            assert post(f"{url}{FAKE}", BODY, headers=token | {"Host": "c.example"}).ok

    @pytest.mark.parametrize("names", ["http://a.example", "a.example:80", "a b", "a/b"])
    def test_what_is_no_name(self, names):
        with pytest.raises(InputError, match="allowed_hosts are names without port and path"):
            ServeConfig(models=["m"], allowed_hosts=names)

    def test_a_redirect_stays_on_the_server(self, url):
        for path in ("/docs/", "/page"):
            response = requests.get(url + path, allow_redirects=False, headers={"Host": "localhost:99"})
            assert response.is_redirect and response.headers["location"] == {"/docs/": "/docs", "/page": "/page/"}[path]


class TestToken:
    @pytest.mark.parametrize("given", ["Bearer t", "bearer t", "BEARER  t"])
    def test_the_scheme_has_no_case(self, given):
        with gated(lengths_of, token="t") as url:
            assert post(f"{url}{FAKE}", BODY, headers={"Authorization": given}).ok
            for wrong in ("Basic t", "t", "Bearer T", "Bearer", "Bearer t\u00e4"):
                headers = {"Authorization": wrong.encode("latin-1")}
                assert "asks for a token" in refusal(post(f"{url}{FAKE}", BODY, headers=headers), 401)


class TestBodies:
    @pytest.mark.parametrize(
        "kind", [None, "application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"]
    )
    def test_json(self, url, kind):
        assert post(f"{url}{FAKE}", BODY, headers={"Content-Type": kind}).json() == {"predictions": [1]}

    @pytest.mark.parametrize(
        "kind", ["text/plain", "text/plain;charset=UTF-8", "multipart/form-data;boundary=x", "a/b"]
    )
    def test_other_types(self, url, kind):
        reason = refusal(post(f"{url}{FAKE}", BODY, headers={"Content-Type": kind}), 415)
        assert "must be JSON" in reason

    def test_gzip(self, url):
        def send(content, **headers):
            return post(f"{url}{FAKE}", content, headers={"Content-Encoding": "gzip", **headers})

        packed = gzip.compress(json.dumps(BODY).encode())
        assert send(packed).json() == {"predictions": [1]}
        assert "may have 100000 bytes" in refusal(send(gzip.compress(b"a" * 10_000_000)), 413)
        for broken in (b"", b"a", packed[:-3], packed + b"a", packed + packed):
            assert "The body is no gzip" in refusal(send(broken), 400)
        for other in ("br", "deflate", "gzip, gzip"):
            assert "may be plain or gzip" in refusal(send(packed, **{"Content-Encoding": other}), 415)

    def test_two_ends_of_one_body(self, url):
        """What follows may be another's request, smuggled past a proxy: it is never read."""
        head = post_head(FAKE, "Content-Length: 5", "Transfer-Encoding: chunked")
        with connect(url) as client:
            client.sendall(head + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            received, seconds = until_closed(client, seconds=3)
        assert received.count(b"HTTP/1.1") == 1 and b" 400 " in received and seconds is not None
