//! Who may call, where no GitLab is in play.

use sconce::auth::{AllowList, Auth};
use sconce::http::{Gate, Gitlab};

/// A gate with this lock on the OpenAI surface, and nothing behind GitLab's.
pub fn gate(auth: Auth) -> Gate {
    let allow_list = AllowList::new(&[], &[]).expect("an empty list is one");
    Gate { auth, gitlab: Gitlab::off(), allow_list }
}
