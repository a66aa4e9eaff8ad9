//! The pages in a real browser: Chromium without a screen, driven over WebDriver.

use serde_json::{Value, json};

use crate::cases;
use crate::command::{Running, eventually, system};
use crate::delivery::{active, latest, source, text};
use crate::host::{Host, LIMIT};
use crate::manifest::sleeper;
use crate::runner::{Case, Skip, Verdict};
use crate::signatures::{key_pair, kitchen};
use crate::web::{ORIGIN, Program, recipe, serving};

pub const CASES: &[&[Case]] = &[cases![somebody_logs_in_and_promotes]];

const DRIVER: &str = "http://127.0.0.1:9515";
/// Key of an element's name (WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser inside a host's network namespace.
struct Browser<'a> {
    host: &'a Host,
    driver: Option<Running>,
    session: String,
}

impl<'a> Browser<'a> {
    fn start(host: &'a Host) -> Self {
        let driver = host.start_inside("chromedriver", &["--port=9515"]);
        let mut browser = Self {
            host,
            driver: Some(driver),
            session: String::new(),
        };
        eventually(30.0, "chromedriver listens", || {
            host.inside("curl", &["-sf", &format!("{DRIVER}/status")])
                .code
                == 0
        });
        let profile = host.dir.join("chromium").display().to_string();
        let mut flags: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
        ]
        .map(str::to_owned)
        .into();
        flags.push(format!("--user-data-dir={profile}"));
        let options = json!({ "args": flags, "binary": "/usr/bin/chromium" });
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let made = browser.ask("POST", "/session", Some(&wanted));
        browser.session = text(&made["sessionId"]);
        assert!(!browser.session.is_empty(), "{made}");
        browser
    }

    /// Value of an answer; a failure has `error` in it.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{DRIVER}{path}");
        let text = body.unwrap_or(&json!({})).to_string();
        let mut arguments = vec!["-s", "--max-time", "50", "-X", method, &url];
        if method == "POST" {
            arguments.extend(["-H", "content-type: application/json", "-d", &text]);
        }
        self.host.inside("curl", &arguments).ok().json()["value"].clone()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.ask(
            "POST",
            &format!("/session/{}/{path}", self.session),
            Some(body),
        )
    }

    fn look(&self, path: &str) -> Value {
        self.ask("GET", &format!("/session/{}/{path}", self.session), None)
    }

    fn open(&self, path: &str) {
        let done = self.command("url", &json!({ "url": format!("{ORIGIN}{path}") }));
        assert!(done.is_null(), "{done}");
    }

    /// An element that an XPath leads to, once it is there.
    fn find(&self, path: &str) -> String {
        let wanted = json!({ "using": "xpath", "value": path });
        let mut found = Value::Null;
        eventually(30.0, &format!("the page has {path}"), || {
            found = self.command("element", &wanted);
            found[ELEMENT].is_string()
        });
        text(&found[ELEMENT])
    }

    fn write(&self, path: &str, what: &str) {
        let element = self.find(path);
        self.command(
            &format!("element/{element}/value"),
            &json!({ "text": what }),
        );
    }

    fn click(&self, path: &str) {
        // The page may be made again between finding and clicking.
        eventually(30.0, &format!("{path} can be clicked"), || {
            let element = self.find(path);
            let done = self.command(&format!("element/{element}/click"), &json!({}));
            done.is_null()
        });
    }

    /// Says yes to the question that is asked, and gives it.
    fn agree(&self) -> String {
        let asked = text(&self.look("alert/text"));
        self.command("alert/accept", &json!({}));
        asked
    }

    fn address(&self) -> String {
        text(&self.look("url"))
    }

    fn end(mut self) {
        self.ask("DELETE", &format!("/session/{}", self.session), None);
        if let Some(driver) = self.driver.take() {
            driver.signal(nix::sys::signal::Signal::SIGTERM);
            driver.wait(LIMIT);
        }
    }
}

fn somebody_logs_in_and_promotes() -> Verdict {
    for program in ["chromium", "chromedriver"] {
        if system("sh", &["-c", &format!("command -v {program}")]).code != 0 {
            return Err(Skip(format!("{program} is not installed")));
        }
    }
    let (host, password) = serving();
    let dir = source(&host, &sleeper("web"));
    let admin = Program::new(&host, "admin", &password);
    admin
        .call("POST", "/orders", Some(&recipe(&dir, "red")))
        .is(201);
    let red = latest(&host, "web");
    let browser = Browser::start(&host);
    // Whoever follows a link comes to where it leads, once logged in.
    browser.open("/recipes/default/web");
    browser.write("//input[@id='username']", "admin");
    browser.write("//input[@id='password']", &password);
    browser.click("//button[@type='submit']");
    browser.find("//h1[text()='web']");
    assert!(browser.address().ends_with("/recipes/default/web"));
    browser.find("//span[@id='live' and text()='live']");
    browser.click("//button[text()='Promote']");
    assert_eq!(browser.agree(), format!("Promote web to {red}?"));
    eventually(40.0, "red is active", || {
        host.kuke(&["get", "serving", "web"]).code == 0 && active(&host, "web") == red
    });
    host.await_state("web", "Ready");
    // The page follows by itself, also what others do.
    browser.find("//tr[contains(@class,'current')]//span[text()='active']");
    admin
        .call("PUT", "/orders/default/web", Some(&recipe(&dir, "blue")))
        .is(200);
    let blue = latest(&host, "web");
    browser.click("//button[text()='Promote']");
    browser.agree();
    eventually(40.0, "blue is active", || active(&host, "web") == blue);
    // Going back is said as such.
    browser.click("//button[text()='Rollback']");
    assert_eq!(browser.agree(), format!("Roll back web to {red}?"));
    eventually(40.0, "red is active again", || active(&host, "web") == red);
    // Names and messages are text, whatever they look like.
    let evil = "<img src=x onerror=document.title='owned'>";
    let edits = json!({
        "edits": [{ "target": { "kind": "Cell", "name": "web" }, "set": { ".metadata.labels.by": "hand" } }],
        "message": evil,
    });
    admin
        .call("PUT", "/orders/default/web/edits", Some(&edits.to_string()))
        .is(200);
    browser.find(&format!("//td[text()=\"{evil}\"]"));
    assert!(!text(&browser.look("title")).contains("owned"));
    let history = host.kuke(&["history", "web"]).ok();
    history.says(&["web:admin"]);
    // A page of a Preparation says who signed it.
    let signature = "//dt[text()='Signature']/following-sibling::dd[1]";
    browser.open(&format!("/preparations/default/{red}"));
    browser.find(&format!("{signature}[text()='none']"));
    let (private, public) = key_pair(&host, "release", "EC");
    host.apply(&kitchen(&dir, false, &[&public])).ok();
    host.kuke(&["prep", "sign", &red, "--key", &private]).ok();
    browser.open(&format!("/preparations/default/{red}"));
    browser.find(&format!(
        "{signature}[starts-with(text(),'signed with the key')]"
    ));
    browser.click("//button[@data-logout]");
    browser.find("//form[@id='login']");
    browser.open("/settings");
    browser.find("//form[@id='login']");
    browser.end();
    host.finish();
    Ok(())
}
