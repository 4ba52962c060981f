"""What is behind an address, and that Apprise understands what it is given for it."""

from pathlib import Path

import apprise
import pytest

from homeport.config.settings import Settings, Target
from homeport.notify.receivers import (
    CHAT_FORMATS,
    LOCAL_SCHEMES,
    WEBHOOK_FORMATS,
    Receiver,
    ReceiverError,
    recognise,
)

#: A library of one of Apprise's modules.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")

SECRET = "hunter2hunter2"
DISCORD = f"https://discord.com/api/webhooks/123456789/{SECRET}"
SLACK = f"https://hooks.slack.com/services/T1234567/B1234567/{SECRET}"
LOGIC = "https://prod-01.westeurope.logic.azure.com:443/workflows/643e69f8/triggers/manual/paths/invoke"
TEAMS = f"{LOGIC}?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={SECRET}"
POWER = (
    "https://default12.d1.environment.api.powerplatform.com/powerautomate/automations/direct/workflows/643e69f8"
    f"/triggers/manual/paths/invoke?api-version=1&sig={SECRET}"
)
TOKEN = "tk_abcdefghijklmnopqrstuvwxyz123"


def service(receiver: Receiver) -> apprise.NotifyBase:
    """What Apprise makes of the receiver's address."""
    asset = apprise.AppriseAsset(storage_mode=apprise.PersistentStoreMode.MEMORY)
    found = apprise.Apprise.instantiate(receiver.address, asset=asset)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("url", "name", "class_name"),
    [
        (DISCORD, "Discord", "NotifyDiscord"),
        (DISCORD.replace("discord.com/api", "canary.discord.com/api/v10"), "Discord", "NotifyDiscord"),
        (DISCORD.replace("discord.com", "discordapp.com") + "/slack?wait=true", "Discord", "NotifyDiscord"),
        (SLACK, "Slack", "NotifySlack"),
        (SLACK.replace("slack.com", "slack-gov.com"), "Slack", "NotifySlack"),
        (f"https://hooks.slack.com/triggers/T123/456/{SECRET}", "Slack", "NotifySlack"),
        (TEAMS, "Microsoft Teams", "NotifyWorkflows"),
        (POWER, "Microsoft Teams", "NotifyWorkflows"),
        ("https://ntfy.sh/homeport-7d1c", "ntfy", "NotifyNtfy"),
        (f"https://ada:{SECRET}@ntfy.sh/topic", "ntfy", "NotifyNtfy"),
        (f"https://gotify.lan/message?token={SECRET}", "Gotify", "NotifyGotify"),
        (f"http://[::1]:8080/sub/folder/message?token={SECRET}", "Gotify", "NotifyGotify"),
        (f"mailtos://ada:{SECRET}@mail.lan?to=ops@example.org", "mail", "NotifyEmail"),
        (f"tgram://123456789:{SECRET}abcdefghijklmnopqrstuvw/-100123", "Telegram", "NotifyTelegram"),
        (f"matrixs://ada:{SECRET}@matrix.lan/%23ops", "Matrix", "NotifyMatrix"),
        (f"mmosts://mattermost.lan/{SECRET}", "Mattermost", "NotifyMattermost"),
        (f"pover://uuuuuuuuuuuuuuuuuuuuuuuuuuuuuu@{SECRET}aaaaaaaaaaaaaaaa", "Pushover", "NotifyPushover"),
        (f"json://hook.lan/{SECRET}", "json", "NotifyJSON"),
        (f"  {DISCORD}\n", "Discord", "NotifyDiscord"),
    ],
)
def test_chat_services_are_known_by_their_address(url: str, name: str, class_name: str) -> None:
    receiver = recognise(url)
    assert (receiver.name, receiver.is_chat) == (name, True)
    assert type(service(receiver)).__name__ == class_name
    assert SECRET not in repr(receiver)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/anything?token=x",
        "http://192.168.1.7:9000/",
        "https://ntfy.lan/topic",
        "https://ntfy.sh/",
        "https://ntfy.sh/topic/more",
        "https://discord.com/api/webhooks/abc/def",
        "https://discord.com.evil.example/api/webhooks/1/2",
        "https://evil.example/discord.com/api/webhooks/1/2",
        "https://evil.example@hooks.example.org/api/webhooks/1/2",
        "https://hooks.slack.com.evil.example/services/T1/B1/X1",
        "https://hooks.slack.com/services/T1/B1",
        "https://gotify.lan/message",
        "https://gotify.lan/message?token=",
        "https://gotify.lan/message?token=x&other=y",
        LOGIC,
        "https://evil.example/workflows/1/triggers/manual/paths/invoke?sig=x",
    ],
)
def test_any_other_address_is_a_webhook(url: str) -> None:
    assert recognise(url) == Receiver("Standard Webhooks", "standard", url)


@pytest.mark.parametrize("form", WEBHOOK_FORMATS)
def test_a_webhook_by_its_format(form: str) -> None:
    for url in ("https://hooks.example.org/x", DISCORD, SLACK):
        assert recognise(url, form) == Receiver(WEBHOOK_FORMATS[form], form, url)
    with pytest.raises(ReceiverError, match=f"format {form} is for an address that begins with"):
        recognise(f"mailto://{SECRET}@mail.lan", form)


@pytest.mark.parametrize(
    ("url", "form", "place"),
    [
        ("https://ntfy.lan/topic", "ntfy", ("ntfy.lan", None, True)),
        ("http://ntfy.lan:8080/topic/", "ntfy", ("ntfy.lan", 8080, False)),
        ("http://[fd00::7]:8080/topic", "ntfy", ("[fd00::7]", 8080, False)),
        ("https://push.lan:444/message?token=Axy.z&priority=7", "gotify", ("push.lan", 444, True)),
        (LOGIC.replace("azure.com", "azure.us") + "?sig=x&api-version=1", "teams", None),
        (DISCORD, "apprise", None),
        (f"discord://123456789/{SECRET}", "discord", None),
        (f"ntfys://ntfy.lan/{SECRET}", "ntfy", ("ntfy.lan", None, True)),
    ],
)
def test_a_chat_service_by_its_format(url: str, form: str, place: tuple[str, int | None, bool] | None) -> None:
    receiver = recognise(url, form)
    assert receiver.is_chat
    found = service(receiver)
    if place is not None:
        assert (found.host, found.port, found.secure) == place


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"https://ntfy.lan/{SECRET}", ("basic", None, None, None)),
        (f"https://ada:{SECRET}@ntfy.lan/topic", ("basic", "ada", SECRET, None)),
        (f"https://{TOKEN}@ntfy.lan/topic", ("token", TOKEN, None, TOKEN)),
        (f"https://:{TOKEN}@ntfy.lan/topic", ("token", TOKEN, None, TOKEN)),
        ("https://:tk_short@ntfy.lan/topic", ("token", "tk_short", None, "tk_short")),
    ],
)
def test_logins_of_ntfy(url: str, expected: tuple[str | None, ...]) -> None:
    found = service(recognise(url, "ntfy"))
    assert (found.auth, found.user or None, found.password, found.token) == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("form", ["discord", "slack", "teams", "ntfy", "gotify"])
@pytest.mark.parametrize(
    "url", [f"https://hooks.example.org/a/b?key={SECRET}", f"tgram://{SECRET}/1", f"mailto://ada:{SECRET}@mail.lan"]
)
def test_an_address_of_something_else_is_told_without_repeating_it(url: str, form: str) -> None:
    with pytest.raises(ReceiverError, match=f"format {form}") as failure:
        recognise(url, form)
    assert SECRET not in str(failure.value)
    assert "example" not in str(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        SECRET,
        f"{SECRET}.example.org/hook",
        f"https://two.example/{SECRET} https://addresses.example/",
        f"https://two.example/{SECRET}\nhttps://addresses.example/",
        f"https:///{SECRET}",
        f"https://host:0/{SECRET}",
        f"https://host:99999/{SECRET}",
        f"https://[::1/{SECRET}",
        f"https:{SECRET}",
        f"://{SECRET}",
        f"https://gotify.lan/message?token={SECRET}\ud800",
        f"https://discord.com/api\x00/{SECRET}",
    ],
)
@pytest.mark.parametrize("form", ["auto", "apprise", "discord"])
def test_no_address_at_all(url: str, form: str) -> None:
    with pytest.raises(ReceiverError, match="what was found is no address") as failure:
        recognise(url, form)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize("scheme", sorted(LOCAL_SCHEMES))
def test_nothing_on_this_machine_is_a_receiver(scheme: str) -> None:
    for url in (f"{scheme}://", f"{scheme}://localhost", f"{scheme.upper()}://localhost/x"):
        with pytest.raises(ReceiverError):
            recognise(url, "apprise")


def test_all_local_schemes_of_apprise_are_refused() -> None:
    """A module that names no library for the network, nor another module that does, can only do something here."""
    plugins = apprise.NotificationManager()  # type: ignore[no-untyped-call]
    folder = Path(apprise.__file__).parent / "plugins"
    libraries = ("requests.", "socket", "smtplib", "paho", "slixmpp", "smpplib", "gntp")
    words = (*libraries, "NotifyEmail", "NotifyEmby", "NotifyDiscord")
    for module in folder.glob("*.py"):
        if module.stem in ("__init__", "base") or any(word in module.read_text() for word in words):
            continue
        known = plugins.schemas()  # type: ignore[no-untyped-call]
        schemes = {scheme for scheme in known if plugins[scheme].__module__.endswith(f".{module.stem}")}
        assert schemes <= LOCAL_SCHEMES, module.name


def test_the_formats_of_the_configuration_are_those_that_are_known() -> None:
    annotation = Target.model_fields["format"].annotation
    assert set(annotation.__args__) == {"auto", *WEBHOOK_FORMATS, *CHAT_FORMATS}  # type: ignore[union-attr]
    assert "notify" in Settings.model_fields
