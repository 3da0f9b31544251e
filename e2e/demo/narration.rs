//! Shows what is typed and what comes back.

use std::io::IsTerminal as _;
use std::process::Output;

use anyhow::{Result, bail};

use hubstorage_e2e::{MinioUser, Notebook, Platform};

/// Tells the steps of the story on standard output.
pub struct Narrator<'p> {
    platform: &'p Platform,
    chapter: usize,
    colours: bool,
}

impl<'p> Narrator<'p> {
    pub fn new(platform: &'p Platform) -> Self {
        Self {
            platform,
            chapter: 0,
            colours: std::io::stdout().is_terminal(),
        }
    }

    /// Begins a chapter.
    pub fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        println!(
            "\n{}",
            self.paint("1", &format!("{}. {title}", self.chapter))
        );
    }

    /// The last line.
    pub fn the_end(&self) {
        println!("\n{}", self.paint("1;32", "Every step did what it should."));
        println!(
            "The platform still runs: `make status` tells how to reach it, `make down` stops it."
        );
    }

    /// The last lines, if a step did not do what it should.
    pub fn the_failure(&self) {
        let failed = format!("Step {} did not do what it should.", self.chapter);
        println!("\n{}", self.paint("1;31", &failed));
        println!(
            "What it made is still there: `make status` tells how to look, and where the logs are. `make demo` begins \
             anew, `make down` stops everything."
        );
    }

    /// kubectl as the platform engineer.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.typed("$", &format!("kubectl {}", quoted(arguments)));
        self.show(self.platform.kubectl(arguments).await?)
    }

    /// `kubectl apply -f` of an example, with what is typed and the text of the file.
    pub async fn apply(&self, file: &str, yaml: &str) -> Result<String> {
        self.typed("$", &format!("cat {file}"));
        self.indented(yaml);
        self.typed("$", &format!("kubectl apply -f {file}"));
        self.show(
            self.platform
                .kubectl_with_input(["apply", "-f", "-"], yaml)
                .await?,
        )
    }

    /// MinIO's client as the owner of the store.
    pub async fn mc(&self, arguments: &[&str]) -> Result<String> {
        self.typed("$", &format!("mc {}", quoted(arguments)));
        let key = self.platform.minio_key(MinioUser::Root)?;
        self.show(self.platform.mc(&key, None, arguments).await?)
    }

    /// A cell of a user's notebook.
    pub async fn python(&self, user: &str, notebook: &Notebook, code: &str) -> Result<String> {
        for line in code.trim_end().lines() {
            self.typed(&format!("{user} >>>"), line);
        }
        let text = notebook.python(code).await?;
        self.indented(&text);
        Ok(text)
    }

    fn show(&self, output: Output) -> Result<String> {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        self.indented(&text);
        if !output.status.success() {
            bail!(
                "{}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(text)
    }

    fn typed(&self, prompt: &str, line: &str) {
        println!(
            "  {}",
            self.paint("36", format!("{prompt} {line}").trim_end())
        );
    }

    fn indented(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("    {line}");
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// As a shell would want it.
fn quoted(arguments: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:".contains(c);
    let quote = |argument: &&str| {
        if argument.chars().all(plain) {
            (*argument).to_owned()
        } else {
            format!("'{argument}'")
        }
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}
