//! The documentation index from the outside: a small tree is imported and searched, strangers' trees do no harm, and an
//! index is replaced while it is in use.

use sconce::search::{
    BASE_URL, Hit, ImportError, ImportOptions, Index, Progress, Report, SearchError, SkipReason, import,
};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    fn index_path(&self) -> PathBuf {
        self.folder.path().join("state/docs.db")
    }

    /// A tree of files, made of paths and contents.
    fn tree(&self, files: &[(&str, &[u8])]) -> PathBuf {
        let root = self.folder.path().join(format!("tree-{}", files.len()));
        for (name, content) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("it lies in the tree")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        root
    }

    fn import(&self, folder: &Path) -> Result<Report, ImportError> {
        let options = ImportOptions { folder: folder.to_owned(), base_url: BASE_URL.to_owned() };
        import(&self.index_path(), &options, &mut |_| {})
    }

    fn index(&self) -> Index {
        Index::open(self.index_path())
    }
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/search/data")
}

fn imported() -> (Bench, Index) {
    let bench = Bench::new();
    bench.import(&data()).expect("the tree is fine");
    let index = bench.index();
    (bench, index)
}

fn names(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.source_url.strip_prefix("https://docs.gitlab.com").expect("under the base")).collect()
}

#[test]
fn a_tree_is_imported_and_reported() {
    let bench = Bench::new();
    let mut progress = Vec::new();
    let options = ImportOptions { folder: data(), base_url: BASE_URL.to_owned() };
    let report = import(&bench.index_path(), &options, &mut |step| progress.push(step)).expect("the tree is fine");
    assert_eq!((report.documents, report.passages, report.skipped_total), (4, 7, 2));
    let skipped: Vec<_> = report.skipped.iter().map(|skipped| (skipped.path.as_str(), skipped.reason)).collect();
    assert_eq!(
        skipped,
        [("administration/empty.md", SkipReason::Empty), ("administration/old.md", SkipReason::Redirect)]
    );
    assert_eq!(progress.last(), Some(&Progress { files_done: 6, files_total: 6 }));
    let status = bench.index().status().expect("an index");
    assert_eq!((status.documents, status.passages, status.bytes), (4, 7, report.bytes));
    assert_eq!(status.base_url, BASE_URL);
    assert!(status.imported_s > 1_700_000_000);
}

#[test]
fn questions_find_their_passages() {
    let (_bench, index) = imported();
    let check = |question: &str, expected: &[&str]| {
        let hits = index.search(question, 4).expect("an index");
        // A model is given four passages: which of two good ones comes first is not worth a rule.
        let names = names(&hits);
        let first = &names[..names.len().min(2)];
        assert!(expected.iter().all(|name| first.contains(name)), "{question}: {names:?}");
    };
    check("How do I fork a project?", &["/user/project/forking/#create-a-fork"]);
    check("how can I bring a fork up to date with upstream", &["/user/project/forking/#update-a-fork"]);
    // A short section begins the passage of the next one.
    check("CI_JOB_TOKEN 404", &["/ci/job_token/"]);
    check("cloning private repositories in .gitlab-ci.yml", &["/ci/job_token/#clone-a-private-project-in-a-job"]);
    check("what is a pipeline stage", &["/ci/"]);
    check("große anhänge", &["/administration/umlauts/"]);
    check("Grosse Anhange", &["/administration/umlauts/"]);
    for nothing in ["zebra_flag", "quokka", "redirect moved page", "notes.txt", "zzzz", "", "\"", "*", "AND OR NOT"] {
        let hits = index.search(nothing, 4).expect("an index");
        assert!(hits.iter().all(|hit| !hit.content.contains("zebra") && !hit.content.contains("quokka")), "{nothing}");
    }
    assert_eq!(index.search("zzzz", 4).expect("an index"), []);
}

#[test]
fn hits_are_what_the_contract_asks_for() {
    let (_bench, index) = imported();
    let hits = index.search("fork", 20).expect("an index");
    assert_eq!(hits.len(), 3);
    let hit = hits.iter().find(|hit| hit.source_url.ends_with("#create-a-fork")).expect("the steps are found");
    assert_eq!((hit.filename.as_str(), hit.title.as_str()), ("user/project/forking.md", "Forks of a project"));
    assert!(
        hit.content.starts_with("Forks of a project > Create a fork\n\nTo fork a project:\n\n1. Open"),
        "{}",
        hit.content
    );
    for hit in &hits {
        assert_eq!(hit.id.len(), 12);
        assert!(hit.id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)), "{}", hit.id);
    }
    assert_eq!(hits.iter().map(|hit| &hit.id).collect::<HashSet<_>>().len(), hits.len());
    assert_eq!(index.search("fork", 1).expect("an index").len(), 1);
    assert_eq!(index.search("fork", 0).expect("an index").len(), 1);
    // The same passage has the same id in every import.
    let (_other, again) = imported();
    assert_eq!(again.search("fork", 20).expect("an index"), hits);
}

#[test]
fn users_have_no_operators() {
    let (_bench, index) = imported();
    for question in [
        "fork\" OR \"x",
        "fork*",
        "^fork",
        "title: fork",
        "{title headings}: fork",
        "NEAR(fork project, 2)",
        "fork AND",
        "NOT fork",
        "fork -project",
        "fork' ; DROP TABLE passages; --",
        "fork\0project",
        "((((fork",
        "fork \\\" \\",
        "fork\u{feff}\u{200b}",
        "+fork +project",
    ] {
        let hits = index.search(question, 4).unwrap_or_else(|error| panic!("{question:?}: {error}"));
        assert!(!hits.is_empty(), "{question:?} finds the word in it");
    }
    let long = "fork ".repeat(80_000);
    assert!(!index.search(&long, 4).expect("an index").is_empty());
}

#[test]
fn pages_share_the_results() {
    let bench = Bench::new();
    let section = format!("## Widget part\n\n{}\n\n", "All about the widget and its parts in this place. ".repeat(10));
    let talkative = format!("# Widget\n\n{}", section.repeat(8));
    let other =
        "# Other\n\nA widget is mentioned once in a page on something else, beside many words on other things.\n";
    let folder = bench.tree(&[("widget.md", talkative.as_bytes()), ("other.md", other.as_bytes())]);
    bench.import(&folder).expect("the tree is fine");
    let hits = bench.index().search("widget", 4).expect("an index");
    let of_other = hits.iter().filter(|hit| hit.filename == "other.md").count();
    assert_eq!((hits.len(), of_other), (4, 1));
}

#[test]
#[cfg(unix)]
fn strangers_trees_do_no_harm() {
    let bench = Bench::new();
    let large = vec![b'x'; 5 * 1024 * 1024];
    let deep = format!("{}deep.md", "d/".repeat(70));
    let folder = bench.tree(&[
        ("good.md", b"# Good\n\nA page with a walrus in it.\n"),
        ("binary.md", b"# B\0inary walrus"),
        ("latin.md", b"# Caf\xe9 walrus"),
        ("large.md", &large),
        (&deep, b"# Deep walrus"),
        (".git/config.md", b"# Hidden walrus"),
        ("line\nbreak.md", b"# Odd name\n\nwalrus\0"),
    ]);
    let secret = bench.folder.path().join("secret.md");
    fs::write(&secret, "# Secret walrus").expect("a file");
    std::os::unix::fs::symlink(&secret, folder.join("link.md")).expect("a link");
    std::os::unix::fs::symlink(&folder, folder.join("loop")).expect("a link");
    std::os::unix::fs::symlink("nowhere", folder.join("dangling.md")).expect("a link");
    let socket = std::os::unix::net::UnixListener::bind(folder.join("socket.md")).expect("a socket");
    let report = bench.import(&folder).expect("one page is fine");
    drop(socket);
    assert_eq!(report.documents, 1);
    let reason = |name: &str| {
        let found = report.skipped.iter().find(|skipped| skipped.path == name);
        found.map_or_else(|| panic!("{name} is not reported"), |skipped| skipped.reason)
    };
    assert_eq!(reason("binary.md"), SkipReason::NotText);
    assert_eq!(reason("latin.md"), SkipReason::NotText);
    assert_eq!(reason("large.md"), SkipReason::TooLarge { bytes: large.len() as u64 });
    assert_eq!(reason("link.md"), SkipReason::Link);
    assert_eq!(reason("loop"), SkipReason::Link);
    assert_eq!(reason("dangling.md"), SkipReason::Link);
    assert_eq!(reason("socket.md"), SkipReason::Special);
    assert_eq!(reason("line\u{fffd}break.md"), SkipReason::NotText);
    assert!(report.skipped.iter().any(|skipped| skipped.reason == SkipReason::TooDeep));
    assert_eq!(report.skipped_total, 9);
    let hits = bench.index().search("walrus", 20).expect("an index");
    assert_eq!(hits.iter().map(|hit| hit.filename.as_str()).collect::<Vec<_>>(), ["good.md"]);
}

#[test]
fn a_failed_import_leaves_the_index_as_it_was() {
    let (bench, index) = imported();
    let before = index.search("fork", 4).expect("an index");
    let check = |folder: &Path, expected: &str| {
        let error = bench.import(folder).expect_err("nothing to import").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(index.search("fork", 4).expect("an index"), before);
    };
    check(&bench.tree(&[("a.txt", b"x")]), "there is no Markdown to import under");
    check(&bench.tree(&[("a.md", b"\0"), ("b.md", b"")]), "(2 files were left out)");
    check(&bench.folder.path().join("nowhere"), "cannot read the folder");
    check(&data().join("ci/_index.md"), "is not a folder");
    let options = ImportOptions { folder: data(), base_url: "docs".to_owned() };
    let error = import(&bench.index_path(), &options, &mut |_| {}).expect_err("no URL");
    assert!(matches!(error, ImportError::BaseUrl { .. }));
    let mut inner = None;
    let options = ImportOptions { base_url: BASE_URL.to_owned(), ..options };
    import(&bench.index_path(), &options, &mut |_| {
        inner.get_or_insert_with(|| bench.import(&data()));
    })
    .expect("the outer one goes on");
    assert!(matches!(inner, Some(Err(ImportError::Busy { .. }))));
    let state = bench.index_path();
    let left: Vec<_> = fs::read_dir(state.parent().expect("a folder"))
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!left.iter().any(|name| name.ends_with(".partial")), "{left:?}");
}

#[test]
fn an_index_is_replaced_while_it_is_searched() {
    let bench = Bench::new();
    let index = bench.index();
    let missing = index.search("fork", 4);
    assert!(matches!(missing, Err(SearchError::Missing { .. })));
    assert_eq!(index.find("fork", 4), []);
    bench.import(&data()).expect("the tree is fine");
    assert_eq!(index.search("fork", 4).expect("an index").len(), 3);
    let trees = [
        bench.tree(&[("one.md", b"# One\n\nThe fork of the first tree.\n")]),
        bench.tree(&[("two.md", b"# Two\n\nThe fork of the second tree.\n"), ("x.md", b"# X\n\nNothing.\n")]),
    ];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let hits = index.search("fork", 4).expect("there is always an index");
                    assert!(!hits.is_empty(), "all of the old or all of the new");
                }
            });
        }
        for round in 0..20 {
            bench.import(&trees[round % 2]).expect("the tree is fine");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let last = index.search("fork", 4).expect("an index");
    assert_eq!(last.iter().map(|hit| hit.filename.as_str()).collect::<Vec<_>>(), ["two.md"]);
}

#[test]
fn broken_indexes_say_so_and_find_nothing() {
    let bench = Bench::new();
    let index = bench.index();
    let path = bench.index_path();
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let check = |content: &[u8], expected: &str| {
        fs::write(&path, content).expect("a file");
        let error = index.search("fork", 4).expect_err("no index").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(index.find("fork", 4), []);
        assert!(index.status().is_err());
    };
    check(b"", "is of version 0 and this program reads version 1: make it anew with `sconce docs import DIR`");
    check(&b"not a database".repeat(1000), "cannot be searched");
    bench.import(&data()).expect("the tree is fine");
    let whole = fs::read(&path).expect("an index");
    check(&whole[..whole.len() / 2], "cannot be searched");
    fs::write(&path, &whole).expect("a file");
    assert!(!index.find("fork", 4).is_empty(), "a repaired index is found again");
}
