"""Texts in other languages are counted, and English ones of any kind are not."""

import pytest

from workers.models.languages import _ENGLISH, _OTHER, foreign

OTHERS = {
    "German": "Ich habe die Ware vor zwei Wochen bestellt und warte noch immer auf die Lieferung, die nicht angekommen ist.",
    "French": "Je n'ai toujours pas reçu le colis que j'ai commandé il y a deux semaines et je voudrais être remboursé.",
    "Spanish": "Todavía no he recibido el paquete que pedí hace dos semanas y quiero que me devuelvan el dinero por favor.",
    "Portuguese": "Ainda não recebi a encomenda que fiz há duas semanas e gostaria de ter o meu dinheiro de volta.",
    "Italian": "Non ho ancora ricevuto il pacco che ho ordinato due settimane fa e vorrei un rimborso per favore.",
    "Dutch": "Ik heb het pakket dat ik twee weken geleden heb besteld nog niet ontvangen en wil mijn geld terug.",
    "Polish": "Nie otrzymałem jeszcze paczki, którą zamówiłem dwa tygodnie temu, i chcę odzyskać pieniądze za to, co nie przyszło.",
    "Swedish": "Jag har inte fått paketet som jag beställde för två veckor sedan och vill att ni betalar tillbaka.",
    "Turkish": "İki hafta önce sipariş ettiğim paket için bir haber yok ve bu çok uzun sürdü, param geri verilsin.",
    "Russian": "Я до сих пор не получил посылку.",
    "Ukrainian": "Я досі не отримав посилку.",
    "Greek": "Δεν έχω λάβει ακόμα το δέμα.",
    "Arabic": "لم أستلم الطرد بعد",
    "Hebrew": "עדיין לא קיבלתי את החבילה",
    "Hindi": "मुझे अभी तक पार्सल नहीं मिला है",
    "Chinese": "我还没有收到包裹。",
    "Japanese": "まだ荷物が届いていません。",
    "Korean": "아직 소포를 받지 못했습니다.",
}
ENGLISH = {
    "a sentence": "I have not received the parcel that I ordered two weeks ago and would like my money back.",
    "a headline": "Wall Street rallies as chip makers post record quarterly profits amid strong demand worldwide",
    "a log": "2026-11-27 17:19:32 ERROR worker-3 connection reset by peer host=10.0.0.7 port=5432 retry=3 timeout=30s",
    "an address": "Rue de la Paix 12, Paris",
    "names": "Maria de la Cruz, Juan del Rio, Ludwig van Beethoven, Leonardo da Vinci met for dinner at the hotel",
    "a tweet": "@acme parcel STILL not here!!! 2 weeks?? refund now pls #fail",
    "a quotation": 'The motto of the house is "liberté, égalité, fraternité", and everybody in it knows what that is about.',
    "a name in another script": "The hotel 東京 was lovely and the staff helped us with all that we needed for the journey home.",
    "numbers": "1 2 3 4 5 6 7 8 9 10 11 12",
    "nothing": "",
    "a programme": "def der(das): return das.und(ein) if das else None  # nothing that is said here",
}


@pytest.mark.parametrize("language", OTHERS)
def test_a_text_in_another_language_is_foreign(language: str) -> None:
    assert foreign([OTHERS[language]]) == 1


@pytest.mark.parametrize("kind", ENGLISH)
def test_an_english_text_is_not(kind: str) -> None:
    assert foreign([ENGLISH[kind]]) == 0


def test_each_text_of_a_call_is_counted() -> None:
    assert foreign([*OTHERS.values(), *ENGLISH.values()]) == len(OTHERS)


def test_no_word_speaks_for_both() -> None:
    assert _ENGLISH.isdisjoint(_OTHER)


def test_only_the_beginning_of_a_long_text_is_looked_at() -> None:
    assert foreign([ENGLISH["a sentence"] * 5 + OTHERS["German"] * 1000]) == 0
