//! Markers and limits of lists.

use crate::{KmsException, validation::Validation};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// Which part of a list is asked for.
pub(crate) struct Page {
    limit: usize,
    /// The last item that was answered.
    after: Option<String>,
}

impl Page {
    /// # Errors
    /// `ValidationException` for a limit that is not 1 to `max`, `InvalidMarkerException`.
    pub(crate) fn parse(
        limit: Option<i64>,
        marker: Option<&str>,
        default: usize,
        max: u16,
    ) -> Result<Self, KmsException> {
        Validation::default()
            .range("limit", limit, 1, i64::from(max))
            .length("marker", marker, 1, 1024)
            .finish()?;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(default);
        let decode = |marker: &str| {
            let bytes = STANDARD_NO_PAD.decode(marker).ok()?;
            String::from_utf8(bytes).ok()?.strip_prefix("after ").map(str::to_owned)
        };
        let after =
            match marker {
                None => None,
                Some(marker) => Some(decode(marker).ok_or_else(|| {
                    KmsException::new("InvalidMarkerException", "Invalid marker.")
                })?),
            };
        Ok(Self { limit, after })
    }

    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The page of `items`, which are sorted by `id`, and the marker of the next one.
    pub(crate) fn cut<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        id: impl Fn(&T) -> &str,
    ) -> (Vec<T>, Option<String>) {
        let after = self.after();
        let mut rest =
            items.into_iter().skip_while(|item| after.is_some_and(|after| id(item) <= after));
        let page: Vec<T> = rest.by_ref().take(self.limit).collect();
        let has_more = rest.next().is_some();
        let marker = page
            .last()
            .filter(|_| has_more)
            .map(|last| STANDARD_NO_PAD.encode(format!("after {}", id(last))));
        (page, marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_give_every_item_once() {
        let items = ["a", "b", "c", "d", "e"];
        let mut seen = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let page = Page::parse(Some(2), marker.as_deref(), 50, 100).unwrap();
            let (part, next) = page.cut(items, |item| *item);
            seen.extend(part);
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(seen, items);
        let wrong = Page::parse(None, Some("x"), 50, 100).err().unwrap();
        assert_eq!(wrong.name(), "InvalidMarkerException");
        for limit in [0, 101] {
            let wrong = Page::parse(Some(limit), None, 50, 100).err().unwrap();
            assert_eq!(wrong.name(), "ValidationException");
        }
    }
}
