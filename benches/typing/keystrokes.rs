//! Somebody who types: seeded editing of a real file, each edit one keystroke after which an editor would ask.
//!
//! A visit to a place lasts 15 to 54 edits, 34 or so on average, and a jump ends it: half of the jumps lead back to a
//! place visited before, half to any line of the file. In between whole lines of the same file are typed character by
//! character, one time in twelve inserted at once as an accepted suggestion is; one burst in six deletes 1 to 6
//! characters before the cursor.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub struct Random(pub u64);

impl Random {
    /// `0..bound`
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// What an editor sends after one edit.
pub struct Edit {
    pub prefix: String,
    pub suffix: String,
    /// The cursor stood elsewhere before.
    pub is_jump: bool,
}

/// An editor that puts the second bracket of a pair behind the cursor by itself, or does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Brackets {
    Plain,
    Closed,
}

struct Typist {
    random: Random,
    brackets: Brackets,
    lines: Vec<Vec<char>>,
    text: Vec<char>,
    cursor: usize,
    /// Where the cursor has been, as positions of the text as it is now.
    places: Vec<usize>,
    /// Edits before the next jump.
    left_here: usize,
    /// To be typed, in reverse.
    typing: Vec<char>,
    deleting: usize,
}

/// The first `count` edits of `file`, one state after each.
pub fn edits(file: &str, count: usize, seed: u64, brackets: Brackets) -> Vec<Edit> {
    let is_worth_typing = |line: &&str| (8..80).contains(&line.trim().len()) && line.is_ascii();
    let lines = file.lines().filter(is_worth_typing).map(|line| format!("{line}\n").chars().collect()).collect();
    let text: Vec<char> = file.chars().collect();
    let mut typist = Typist {
        random: Random(seed),
        brackets,
        lines,
        cursor: text.len() / 2,
        text,
        places: Vec::new(),
        left_here: 30,
        typing: Vec::new(),
        deleting: 0,
    };
    (0..count).map(|_| typist.edit()).collect()
}

impl Typist {
    fn edit(&mut self) -> Edit {
        let is_jump = self.left_here == 0;
        if is_jump {
            self.jump();
        }
        self.left_here -= 1;
        if self.typing.is_empty() && self.deleting == 0 {
            self.begin_burst();
        }
        if self.deleting > 0 && self.cursor > 0 {
            self.deleting -= 1;
            self.delete();
        } else if let Some(char) = self.typing.pop() {
            self.deleting = 0;
            self.put(char);
        }
        let (prefix, suffix) = self.text.split_at(self.cursor);
        Edit { prefix: prefix.iter().collect(), suffix: suffix.iter().collect(), is_jump }
    }

    fn jump(&mut self) {
        let here = self.cursor;
        let returns = !self.places.is_empty() && self.random.below(2) == 0;
        self.cursor = match returns {
            true => self.places.swap_remove(self.random.below(self.places.len())),
            false => {
                let anywhere = self.random.below(self.text.len());
                self.text[anywhere..].iter().position(|char| *char == '\n').map_or(here, |end| anywhere + end)
            }
        };
        self.places.push(here);
        self.typing.clear();
        self.deleting = 0;
        self.left_here = 15 + self.random.below(40);
    }

    fn begin_burst(&mut self) {
        if self.random.below(6) == 0 {
            self.deleting = 1 + self.random.below(6);
        }
        let line = self.random.below(self.lines.len());
        self.typing = self.lines[line].iter().rev().copied().collect();
        if self.deleting == 0 && self.random.below(12) == 0 {
            let last = self.typing.remove(0);
            while let Some(char) = self.typing.pop() {
                self.insert(char);
            }
            self.typing.push(last);
        }
    }

    fn put(&mut self, char: char) {
        let closing = match char {
            '(' => ')',
            '[' => ']',
            '{' => '}',
            _ => '\0',
        };
        let is_there = matches!(char, ')' | ']' | '}') && self.text.get(self.cursor) == Some(&char);
        if self.brackets == Brackets::Closed && is_there {
            self.cursor += 1;
            return;
        }
        self.insert(char);
        if self.brackets == Brackets::Closed && closing != '\0' {
            self.insert(closing);
            self.cursor -= 1;
        }
    }

    fn insert(&mut self, char: char) {
        self.text.insert(self.cursor, char);
        for place in self.places.iter_mut().filter(|place| **place > self.cursor) {
            *place += 1;
        }
        self.cursor += 1;
    }

    fn delete(&mut self) {
        self.cursor -= 1;
        self.text.remove(self.cursor);
        for place in self.places.iter_mut().filter(|place| **place > self.cursor) {
            *place -= 1;
        }
    }
}
