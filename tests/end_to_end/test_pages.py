"""The control room in a real browser."""

import re
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from tests.end_to_end.live_server import LiveServer

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs a browser: apt-get install chromium chromium-driver",
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver") or "")
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def admin(server: LiveServer, browser: WebDriver) -> WebDriver:
    password = re.search(r"user admin, password (\S+)", server.output)
    assert password
    browser.get(f"{server.url}/admin/login/")
    browser.find_element(By.NAME, "username").send_keys("admin")
    browser.find_element(By.NAME, "password").send_keys(password[1])
    browser.find_element(
        By.CSS_SELECTOR, "form#login-form button, form button[type=submit]"
    ).click()
    WebDriverWait(browser, 20).until(lambda page: "login" not in page.current_url)
    return browser


def visible_text(page: WebDriver) -> str:
    return page.find_element(By.TAG_NAME, "body").text


def errors(page: WebDriver) -> list[str]:
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_api_page_lists_the_endpoints_without_outside_help(
    server: LiveServer, browser: WebDriver
) -> None:
    browser.get(f"{server.url}/docs/")
    WebDriverWait(browser, 20).until(lambda page: "/v1/chat/completions" in visible_text(page))
    assert "/v1/generate" in visible_text(browser)
    assert errors(browser) == []


def test_the_first_password_opens_the_control_room(server: LiveServer, admin: WebDriver) -> None:
    admin.get(f"{server.url}/admin/")
    assert "LLM Server" in visible_text(admin)


@pytest.mark.parametrize(
    "path",
    ["models_registry/model", "models_registry/runner", "gateway/apikey", "gateway/usagerecord"],
)
def test_the_lists_open_without_script_errors(
    server: LiveServer, admin: WebDriver, path: str
) -> None:
    admin.get(f"{server.url}/admin/{path}/")
    assert admin.find_elements(By.CSS_SELECTOR, "#result_list, #changelist")
    assert errors(admin) == []


def test_a_key_made_in_the_control_room_is_shown_once(server: LiveServer, admin: WebDriver) -> None:
    admin.get(f"{server.url}/admin/gateway/apikey/add/")
    admin.find_element(By.NAME, "name").send_keys("browser")
    admin.find_element(By.CSS_SELECTOR, ".field-team .select2-selection").click()
    choice = (By.CSS_SELECTOR, ".select2-results__option--highlighted")
    WebDriverWait(admin, 20).until(lambda page: page.find_elements(*choice))
    admin.find_element(*choice).click()
    admin.find_element(By.NAME, "_save").click()
    WebDriverWait(admin, 20).until(lambda page: "sk-llms-" in visible_text(page))
    admin.refresh()
    assert not re.search(r"sk-llms-[a-z0-9]+-\w{8}", visible_text(admin))
