"""What sentences of other languages than English state as a figure or a place, and what that answers."""

from __future__ import annotations

import pytest

from ftq.facts import facts_of
from ftq.questions import Options, rows_of
from ftq.questions.stated.figures import stated_in
from ftq.questions.wordings import language


@pytest.mark.parametrize(
    ("code", "sentence", "question"),
    [
        ("de", "Läufe werden 14 Tage aufbewahrt.", "Wie lange werden Läufe aufbewahrt?"),
        ("de", "Eine Sitzung läuft nach 30 Minuten ab.", "Nach welcher Zeit läuft eine Sitzung ab?"),
        ("de", "Ein Worker braucht etwa 350 MiB RAM.", "Wie viel RAM braucht ein Worker?"),
        ("de", "Bei jedem Start werden 20 Worker erzeugt.", "Wie viele Worker werden bei jedem Start erzeugt?"),
        (
            "fr",
            "La liste est mise à jour toutes les 24 heures.",
            "À quelle fréquence est-ce que la liste est mise à jour ?",
        ),
        ("fr", "Les journaux sont enregistrés dans `/var/log`.", "Où est-ce que les journaux sont enregistrés ?"),
        ("es", "Las ejecuciones se conservan durante 14 días.", "¿Durante cuánto tiempo se conservan las ejecuciones?"),
        ("es", "El tiempo de espera es de 30 segundos.", "¿Cuál es el tiempo de espera?"),
        ("it", "L'elenco viene aggiornato ogni 24 ore.", "Ogni quanto tempo viene aggiornato l'elenco?"),
        ("it", "Il server richiede 2 GB di memoria.", "Che quantità di memoria richiede il server?"),
        ("pt", "A sessão expira após 30 minutos.", "Após quanto tempo a sessão expira?"),
        ("nl", "De lijst wordt elke 24 uur bijgewerkt.", "Hoe vaak wordt de lijst bijgewerkt?"),
        ("pl", "Czas oczekiwania wynosi 30 sekund.", "Ile wynosi czas oczekiwania?"),
        ("ru", "Запуски хранятся 14 дней.", "Как долго запуски хранятся?"),
        ("ru", "Пробный период — 7 дней.", "Какое значение имеет пробный период?"),
        ("zh", "运行记录保留14天。", "运行记录保留多久？"),
        ("ja", "ログは`/var/log/mill`に保存されます。", "ログはどこに保存されますか？"),
    ],
)
def test_a_figure_or_a_place_is_asked_for_as_the_language_does(code: str, sentence: str, question: str) -> None:
    assert [(asked.question, asked.answer) for asked in stated_in(sentence, language(code))] == [(question, sentence)]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("de", "Sie können diese 5 Tage lang wiederherstellen."),  # what?
        ("de", "Die Ausgabe ist auf die letzten 24 Stunden beschränkt."),
        ("de", "Läufe werden 14 Tage aufbewahrt, danach nur noch ihre Namen."),
        ("de", "Der Standardwert ist 5000."),  # of what?
        ("de", "Läufe werden 14 Tage aufbewahrt:"),
        ("es", "Establece el trigger para que se ejecute cada 5 minutos."),
        ("zh", "将当前工作目录设置为 `/code`。"),
        ("en", "Runs are kept for 14 days."),  # which has rules of its own
    ],
)
def test_what_says_more_or_too_little_isnt_asked_for(code: str, sentence: str) -> None:
    assert stated_in(sentence, language(code)) == []


def test_a_stated_figure_becomes_a_row() -> None:
    facts = facts_of("# Mühle\n\nDie Protokolle der Mühle werden 14 Tage aufbewahrt.\n", "a.md")
    rows, _, _ = rows_of(facts, Options(language="de", refusals=0))
    assert "Wie lange werden die Protokolle der Mühle aufbewahrt?" in {row.instruction for row in rows}


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("La valeur par défaut est de 3600 secondes.", "3600 secondes"),
        ("Der Standardwert beträgt 30 Sekunden.", "30 Sekunden"),
        ("El valor predeterminado es `info`.", "`info`"),
        ("Wartość domyślna wynosi 5.", "5"),
    ],
)
def test_a_default_is_read_in_other_languages(said: str, value: str) -> None:
    facts = facts_of(f"## `mill_wait`\n\n{said}\n", "a.md", frozenset("K"))
    assert [(fact.subject, fact.value) for fact in facts] == [("`mill_wait`", value)]
