"""What others wrote, on its way into a page: signs that can't be written, and addresses."""

from __future__ import annotations

import pytest

from airflow_provider_carbonmark.api.markup import web_address, writable


def test_signs_that_no_page_can_hold_are_replaced_and_every_other_stays():
    assert writable("a\x00b\x0bc\x7fd\x85e\ud800f\ufdd0g\uffffh\U0001fffei\U0010ffff") == (
        "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffdg\ufffdh\ufffdi\ufffd"
    )
    text = "<b>&amp;</b>\t\r\n é\xa0\u202e\ufdcf\ufdf0\ufffd\U0001f600\U0010fffd"
    assert writable(text) == text


@pytest.mark.parametrize(
    "url",
    [
        "https://app.carbonmark.com/retirements/id/137-0xab-0",
        "https://pay.example/c/cs_test_a1#fid2%2FYSc?a=1&b=(2)",
        *("http://[::1]:8080/a;b=c,d@e!$*+'~", "https://müller.example"),
    ],
)
def test_an_address_stays_as_it_is(url):
    assert web_address(url) == url


def test_what_no_address_may_have_is_percent_encoded():
    assert web_address('https://example.com/<é|%zz?a=["{1}"]^`%20#b#c') == (
        "https://example.com/%3C%C3%A9%7C%25zz?a=%5B%22%7B1%7D%22%5D%5E%60%20#b%23c"
    )


@pytest.mark.parametrize(
    "url",
    [
        *(None, "", "https://", "//evil.example/x", "/relative", "certificate", "http://a b/"),
        *("JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "\x01javascript:alert(1)"),
        *("data:text/html,<script>alert(1)</script>", "file:///etc/passwd", '"><script>alert(1)</script>'),
        *("https:/\\evil.example", "https:evil.example", "https://user:pass@evil.example/"),
    ],
)
def test_what_may_not_become_a_link_is_none(url):
    assert web_address(url) is None
