"""Users from htpasswd files and Caddyfiles."""

import base64

import bcrypt
from hypothesis import given
from hypothesis import strategies as st

from homeport.auth.imports import caddyfile, htpasswd

HASH = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
OTHER = bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()
WRAPPED = base64.b64encode(HASH.encode()).decode()


def test_htpasswd() -> None:
    found = htpasswd(f"# people\n\nada:{HASH}\r\n  ci:{OTHER}\n")
    assert found.users == {"ada": HASH, "ci": OTHER}
    assert not found.problems


def test_htpasswd_says_what_it_could_not_take() -> None:
    found = htpasswd(f"ada:{HASH}\neve:$apr1$x$y\nno colon\nada:{OTHER}\n-x:{HASH}\nanonymous:{HASH}\nada:{HASH}\n")
    assert found.users == {"ada": HASH}
    assert [problem.split(":")[0] for problem in found.problems] == [f"line {line}" for line in (2, 3, 4, 5, 6)]
    assert "eve" in found.problems[0]
    assert "$apr1$" not in " ".join(found.problems)


CADDYFILE = f"""
{{
    email admin@example.org
}}
docker.example.org {{
    # basic_auth {{ commented out
    basicauth / {{
        root {WRAPPED}
        "ada" `{HASH}`  # the same
        ci {{env.CI_HASH}}
    }}
    reverse_proxy localhost:5000 {{
        header_up Host {{host}}
    }}
}}
other.example.org {{
    basic_auth /admin/* bcrypt "The Realm" {{
        olaf {OTHER}
        lonely
    }}
}}
"""


def test_caddyfile() -> None:
    found = caddyfile(CADDYFILE)
    assert found.users == {"root": HASH, "ada": HASH, "olaf": OTHER}
    assert len(found.problems) == 2
    assert "ci" in found.problems[0]
    assert "variable" in found.problems[0]
    assert found.problems[0].startswith("line 10:")
    assert found.problems[1].startswith("line 19:")


@given(st.text(alphabet='ab:{}"`\\#\n $', max_size=120))
def test_any_text_can_be_read(text: str) -> None:
    for read in (htpasswd, caddyfile):
        assert read(text).users == {}
        assert read(f"basic_auth {{\n{text}").users == {}
