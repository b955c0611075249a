"""The form on the page of a job: what staff can change in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from bulk_import.models import ImportJob

if TYPE_CHECKING:
    from collections.abc import Callable

IN_TURN, AT_FRONT = "turn", "front"


class JobForm(forms.ModelForm):  # type: ignore[type-arg] # generic in the stubs only
    """The concurrency and the priority. A form without a priority does not change it."""

    priority = forms.ChoiceField(
        label=_("Priority"),
        choices=[(IN_TURN, _("in turn")), (AT_FRONT, _("before all other imports"))],
        required=False,
        help_text=_("Chunks of other imports that are on the queue or being processed are not affected."),
    )

    class Meta:
        model = ImportJob
        fields = ["concurrency"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["priority"].initial = AT_FRONT if self.instance.front_at else IN_TURN
        self.fields["priority"].disabled = not self.instance.can_be_cancelled

    def move(self, actor: Any) -> bool:
        """Give the job the chosen priority, and return whether this changed it. Call inside a transaction."""
        moves: dict[str, Callable[[Any], bool]] = {
            AT_FRONT: self.instance.move_to_front,
            IN_TURN: self.instance.move_back,
        }
        chosen = self.cleaned_data["priority"]
        return moves[chosen](actor) if "priority" in self.changed_data and chosen else False
